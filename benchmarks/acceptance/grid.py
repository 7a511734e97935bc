"""Run every box of the acceptance list of domain arms and grids, and print PASS or FAIL with the evidence.

Run by `make accept-grid`, or for selected boxes: `python -m benchmarks.acceptance.grid 1`. The evidence of a box are the tests
marked with its number, `accept(grid=N)`.
"""

from __future__ import annotations

import sys

from benchmarks.acceptance.evidence import REPOSITORY, check, check_results, run_boxes, run_tests
from benchmarks.grid import cells


def box_1() -> list[str]:
    """Arms are nested by identity, what is held out is in no decoded row, the overlap table is what the rows say."""
    drawn = ("tokens of web_sample", "tokens of web_matched", "mean quality")
    return run_tests("grid", 1, figures=["nested", *drawn, "held out and probe documents", "overlap"])


def box_2() -> list[str]:
    """A planted domain of 5 % is found, its intervals cover the truth; another threshold scores nothing again."""
    estimates = [f"estimated {name}" for name in ("precision", "recall", "share")]
    return run_tests("grid", 2, figures=["truth", *estimates, "rebuilt for another threshold"])


def box_3() -> list[str]:
    """Axes over four kinds of keys run with shared artifacts made once; killed in the middle, the same command continues."""
    return run_tests("grid", 3, figures=["cells", "runs made", "runs before the kill"])


def box_4() -> list[str]:
    """`make scaling` went from nothing to both reports, and a grid of 1,000 cells was planned, as fast as asked."""
    claims = ("grid.local_scaling_minutes", "grid.noop_run_s", "grid.plan_1000_cells_s", "grid.plan_1000_cells_mb")
    found = check_results("grid", claims, made_by="make bench-grid")
    for folder in cells.FOLDERS:
        check((REPOSITORY / folder / "report.html").is_file(), f"{folder} has no report: run make scaling")
    return [*found, *(f"{folder}/report.html" for folder in cells.FOLDERS)]


def box_5() -> list[str]:
    """Merges: an interpolation ends at base and export, the residual of a model with itself is nothing, shapes must agree."""
    exact = ("interpolation at 0 and 1", "residual of a model with itself", "planted shape mismatch")
    return run_tests("grid", 5, figures=[*exact, "added to a finished study"])


def box_6() -> list[str]:
    """A base from random weights reaches the loss of plain torch from the same weights and rows."""
    return run_tests("grid", 6, figures=["loss after 20 steps", "plain torch", "another init_seed"])


BOXES = [box_1, box_2, box_3, box_4, box_5, box_6]


if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
