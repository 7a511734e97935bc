"""What the report of a large grid takes: made-up cells, each with runs, metrics, scores and differences of its own.

Times are CPU seconds of this one process, from records in memory to the page and its twins on disk.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.measure.claims import POSITIVE, Claim
from cpt_ray.report.page import write_report
from tests.report.made_up_sizes import make_sizes

CELLS = 1000
STEPS = 100


def measure(cells: int = CELLS, folder: Path | None = None) -> list[Claim]:
    """Build the page of a grid of one model: an arm of two budgets per cell, and one control.

    Args:
        cells: Number of cells.
        folder: Where to leave the page; by default it is not kept.
    """
    arms = [f"legal@mix-{number}" for number in range(cells)]
    study = make_sizes(models=("m1",), arms=arms, budgets=(2_000_000, 8_000_000), seeds=(0,), steps=STEPS)
    with tempfile.TemporaryDirectory() as scratch:
        page = (folder or Path(scratch)) / "report.html"
        started = time.process_time()
        write_report(page, study)
        seconds, size = time.process_time() - started, page.stat().st_size / 1e6
    raw = {"cells": cells, "runs": len(study.runs), "differences": len(study.comparison.deltas), "steps_per_run": STEPS}
    return [
        Claim(
            id=f"report.page_{cells}_cells_s", possible=POSITIVE,
            claim=f"building page, Markdown and JSON of a study of {cells:,} cells, from records in memory",
            value=seconds, unit="CPU s", target="<= 60", raw=raw,
        ),
        Claim(
            id=f"report.page_{cells}_cells_mb", possible=POSITIVE, claim=f"size of the page of a study of {cells:,} cells",
            value=size, unit="MB", target="<= 15", raw=raw,
        ),
    ]  # fmt: skip
