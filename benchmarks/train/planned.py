"""Plan studies after `plan --measure`, run them, and compare; writes `benchmarks/results/plan.json`.

Run by `make bench-plan`, or for selected studies: `python -m benchmarks.train.planned small`. Each is a study of its own in a
temporary folder: `cpt-ray plan --measure`, then `cpt-ray run`; the figures are those of the table "Planned beside measured" in
its report. Memory does not depend on what else runs here, time does. What was measured is kept in `runs/`, and
claims are written when all are there: the worst of some studies says nothing about the others. `--partial` writes them earlier.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure.claims import Claim
from benchmarks.measure.record import RESULTS, describe_processor, write_results

Found = dict[str, dict[str, dict[str, float]]]
"""Study, row of its table, and what was planned, measured and off."""
_REPOSITORY = Path(__file__).parents[2]
_LOCAL = (
    "runtime.kind=local",
    "train.budgets=[8k]",
    "train.schedule={warmup: 1k, cooldown_share: 0.5}",
    "tracking.enabled=false",
)
STUDIES: dict[str, tuple[str, ...]] = {
    "demo": ("tracking.enabled=false",),
    "short rows, one process": (*_LOCAL, "prepare.pack.sequence_length=256", "train.micro_batch_size=1"),
    "recomputed, ZeRO 3": (
        *_LOCAL, "train.gradient_checkpointing=true", "train.deepspeed=ds_configs/zero3_bf16.json", "train.micro_batch_size=4",
    ),
    "adapters": (*_LOCAL, "train.lora={rank: 16, alpha: 32}", "train.micro_batch_size=4", "train.learning_rate=1.0e-3"),
    "small": (
        *_LOCAL, "train.budgets=[16k]", "train.schedule={warmup: 2k, cooldown_share: 0.5}", "train.global_batch_size=8",
        "train.micro_batch_size=4", "models.0.base=init", "train.learning_rate=1.0e-3",
        "models.0.config={architecture: llama, hidden_size: 256, num_hidden_layers: 8, num_attention_heads: 4, "
        "num_key_value_heads: 2, intermediate_size: 704, tie_word_embeddings: true}",
        "models.0.train_tokenizer={vocabulary: 8192, sources: [licences, news]}", "models.0.separator=null",
    ),
}  # fmt: skip
"""Name to overrides of configs/demo.yaml."""


def main() -> None:
    """Run the requested studies, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"one of {', '.join(STUDIES)}; default: all")
    parser.add_argument("--dry", action="store_true", help="no results file")
    parser.add_argument("--partial", action="store_true", help="write claims although studies are missing")
    options = parser.parse_args()
    found = {} if options.dry else _kept()
    for name in options.studies or STUDIES:
        found[name] = measure(name)
        print(name, json.dumps(found[name], indent=1))
        if options.dry:
            continue
        _keep(found)
        if options.partial or not missing(found):
            write_results("plan", claims(found))
            _KEPT.unlink(missing_ok=True)
        else:
            print(
                f"not written yet: {', '.join(missing(found))} of {len(STUDIES)} studies to measure; --partial writes without"
            )


_KEPT = _REPOSITORY / "runs" / "bench-plan.json"
"""Studies that were measured before all were; not committed."""


def missing(found: Found) -> list[str]:
    """The studies that claims about the worst of all need and that were not measured."""
    return [name for name in STUDIES if name not in found]


def _keep(found: Found) -> None:
    _KEPT.parent.mkdir(exist_ok=True)
    _KEPT.write_text(json.dumps({"processor": describe_processor(), "raw": found}), encoding="utf-8")


def _kept() -> Found:
    """What earlier calls measured of other studies on a processor like this."""
    path = RESULTS / "plan.json"
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    mine = [one["raw"] for one in entries if one["id"] == "plan.memory_error" and one["processor"] == describe_processor()]
    later = json.loads(_KEPT.read_text(encoding="utf-8")) if _KEPT.is_file() else {}
    found: Found = {**(mine[0] if mine else {}), **(later["raw"] if later.get("processor") == describe_processor() else {})}
    return {name: rows for name, rows in found.items() if name in STUDIES}


def measure(name: str) -> dict[str, dict[str, float]]:
    """What was planned and measured of one study, by row of its report's table."""
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as folder:
        config = [str(_REPOSITORY / "configs" / "demo.yaml"), f"study.root={folder}/study", *STUDIES[name]]
        learns = any("train_tokenizer" in one for one in config)
        if learns:  # its model exists only after its text
            _run("prepare", *config)
        _run("plan", *config, "--measure")
        _run("run", *config)
        tables: dict[str, Any] = json.loads(Path(folder, "study", "report.json").read_text(encoding="utf-8"))["tables"]
    rows = {str(row[0]).partition(";")[0]: row for row in tables["planned"]["rows"]}
    return {
        what: {"planned": row[1], "measured": row[2], "off": row[3]}
        for what, row in rows.items()
        if not (learns and what == "time of prepare")
    }


def _run(verb: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "cpt_ray.cli.main", verb, *arguments], cwd=_REPOSITORY, check=True)


def claims(found: Found) -> list[Claim]:
    """The worst study in memory and in time, and the worst single stage: errors of stages may cancel in their sum."""
    memory = {name: abs(row["off"]) for name, rows in found.items() for what, row in rows.items() if "memory" in what}
    times = {name: _time_error(rows) for name, rows in found.items()}
    stages = {f"{what} of {name}": abs(row["off"]) for name, rows in found.items() for what, row in _of_time(rows).items()}
    return [
        Claim(
            id="plan.memory_error",
            claim=f"peak memory of a worker, planned after plan --measure: the worst of {len(memory)} studies, "
            f"{max(memory, key=lambda name: memory[name])}",
            value=max(memory.values()),
            unit="share",
            target="<= 0.15",
            possible=(0.0, math.inf),
            compared_with="the highest resident memory of the study's runs",
            raw=found,
        ),
        Claim(
            id="plan.time_error",
            claim=f"time of preparing, training and scoring, planned after plan --measure: the worst of {len(times)} studies, "
            f"{max(times, key=lambda name: times[name])}",
            value=max(times.values()),
            unit="share",
            target="<= 0.2",
            possible=(0.0, math.inf),
            compared_with="the time in which the study's artifacts were made; start-up of the command left out",
            raw=times,
        ),
        Claim(
            id="plan.stage_time_error",
            claim=f"time of a single stage, planned after plan --measure: the worst of {len(stages)} stages of {len(times)} "
            f"studies, {max(stages, key=lambda name: stages[name])}",
            value=max(stages.values()),
            unit="share",
            target="<= 0.2",
            possible=(0.0, math.inf),
            compared_with="the time in which the stage's artifacts were made; start-up of the command left out",
            raw=stages,
        ),
    ]


def _of_time(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {what: row for what, row in rows.items() if what.startswith("time")}


def _time_error(rows: dict[str, dict[str, float]]) -> float:
    of_time = list(_of_time(rows).values())
    return abs(sum(row["planned"] for row in of_time) / sum(row["measured"] for row in of_time) - 1)


if __name__ == "__main__":
    main()
