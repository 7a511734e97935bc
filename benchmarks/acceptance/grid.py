"""Run every box of the acceptance list of domain arms and grids, and print PASS or FAIL with the evidence.

Run by `make accept-grid`, or for selected boxes: `python -m benchmarks.acceptance.grid 1`. The evidence of a box are the tests
marked with its number, `accept(grid=N)`.
"""

from __future__ import annotations

import sys

from benchmarks.acceptance.evidence import run_boxes, run_tests


def box_1() -> list[str]:
    """Arms are nested by identity, what is held out is in no decoded row, the overlap table is what the rows say."""
    drawn = ("tokens of web_sample", "tokens of web_matched", "mean quality")
    return run_tests("grid", 1, figures=["nested", *drawn, "held out and probe documents", "overlap"])


def box_2() -> list[str]:
    """A planted domain of 5 % is found, its intervals cover the truth; another threshold scores nothing again."""
    estimates = [f"estimated {name}" for name in ("precision", "recall", "share")]
    return run_tests("grid", 2, figures=["truth", *estimates, "rebuilt for another threshold"])


def box_5() -> list[str]:
    """Merges: an interpolation ends at base and export, the residual of a model with itself is nothing, shapes must agree."""
    exact = ("interpolation at 0 and 1", "residual of a model with itself", "planted shape mismatch")
    return run_tests("grid", 5, figures=[*exact, "added to a finished study"])


def box_6() -> list[str]:
    """A base from random weights reaches the loss of plain torch from the same weights and rows."""
    return run_tests("grid", 6, figures=["loss after 20 steps", "plain torch", "another init_seed"])


BOXES = {1: box_1, 2: box_2, 5: box_5, 6: box_6}


if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
