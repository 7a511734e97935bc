"""Other tools beside ours on the whole way: from text to a model, on a long run's resumption, and to scores.

Run by `make bench-peers` as `python -m benchmarks.peers [PART ...] [--quick] [--table]`. Each part adds its claims to
`benchmarks/results/peers.json`, so parts can be run one at a time, and then the tables of all peers are rewritten in
`benchmarks/README.md` and `README.md`; `--table` does only that. `--quick` measures little and writes neither.

    run_clm       from a text file to a model: the path of transformers' run_clm.py (`training.py`)
    litgpt        LitGPT's continued pretraining, in an environment of its own (`training.py`)
    ray_template  the loop of Ray's guide to DeepSpeed (`training.py`)
    resume        a long run resumed at 90 %: Hugging Face's Trainer (`resume.py`)
    lm_eval       one task: lm-eval's command line (`scoring.py`)

What only prepares text or only takes steps has peers in `benchmarks/data` and `benchmarks/train`; the tables hold these too.
"""

from __future__ import annotations

from benchmarks.measure import summary
from benchmarks.measure.parts import Parts, measure_parts, parsed, part_parser
from benchmarks.measure.turns import TURN_STEPS
from benchmarks.peers import table
from benchmarks.peers.bench import Bench
from benchmarks.peers.resume import resume
from benchmarks.peers.scoring import lm_eval
from benchmarks.peers.training import litgpt, ray_template, run_clm

PARTS: Parts[Bench] = {
    "run_clm": run_clm,
    "litgpt": litgpt,
    "ray_template": ray_template,
    "resume": resume,
    "lm_eval": lm_eval,
}


def main() -> None:
    """Run the requested parts, or all, and rewrite the tables."""
    parser = part_parser(__doc__, PARTS, quick="one turn a side")
    parser.add_argument("--table", action="store_true", help="measure nothing: rewrite the tables from the results")
    parser.add_argument("--steps", type=int, default=4 * TURN_STEPS, help="steps per side; two of three are measured")
    options = parsed(parser, PARTS)
    if not options.table:
        bench = Bench.quickly() if options.quick else Bench(quick=False, steps=options.steps)
        measure_parts("peers", PARTS, bench, options)
    if not options.quick:
        table.write()
        summary.write()


if __name__ == "__main__":
    main()
