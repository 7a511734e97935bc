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

import argparse
import sys
from collections.abc import Callable

from benchmarks.measure import summary
from benchmarks.measure.claims import Claim, ImpossibleError
from benchmarks.measure.record import write_results
from benchmarks.measure.turns import TURN_STEPS
from benchmarks.peers import table
from benchmarks.peers.bench import Bench
from benchmarks.peers.resume import resume
from benchmarks.peers.scoring import lm_eval
from benchmarks.peers.training import litgpt, ray_template, run_clm

PARTS: dict[str, Callable[[Bench], list[Claim]]] = {
    "run_clm": run_clm,
    "litgpt": litgpt,
    "ray_template": ray_template,
    "resume": resume,
    "lm_eval": lm_eval,
}


def main() -> None:
    """Run the requested parts, or all, and rewrite the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="one turn a side; results and tables stay as they are")
    parser.add_argument("--table", action="store_true", help="measure nothing: rewrite the tables from the results")
    parser.add_argument("--steps", type=int, default=4 * TURN_STEPS, help="steps per side; two of three are measured")
    options = parser.parse_args()
    if options.quick:
        bench = Bench.quickly()
        for part in options.parts or PARTS:
            write_results("peers", PARTS[part](bench), folder=bench.root / "results", merge=True)
        return
    if not options.table:
        bench = Bench(quick=False, steps=options.steps)
        for part in options.parts or PARTS:
            write_results("peers", PARTS[part](bench), merge=True)
    table.write()
    summary.write()


if __name__ == "__main__":
    try:
        main()
    except ImpossibleError as error:
        sys.exit(str(error))
