"""Run every box of the acceptance list of practical use, and print PASS or FAIL with the evidence.

Run by `make accept-practical`, or for selected boxes: `python -m benchmarks.acceptance.practical 1`. What has no test or
measurement yet fails, and says what is missing.
"""

from __future__ import annotations

import sys

from benchmarks.acceptance.evidence import check_results, run_boxes, run_tests


def box_1() -> list[str]:
    """From a messy folder to a report with `init`, `check` and `run` within fifteen minutes; a wheel has all that it needs."""
    found = run_tests("practical", 1)
    made_by = "make bench-practical"
    return [*found, *check_results("practical", ("practical.own_folder_minutes",), made_by=made_by, met=True)]


def box_2() -> list[str]:
    """Planned against measured: memory and time, and published trainings by hand."""
    found = run_tests("practical", 2)
    made_by = "the benchmark of plan"
    return [*found, *check_results("practical", ("plan.memory_error", "plan.time_error"), made_by=made_by, met=True)]


def box_3() -> list[str]:
    """The documentation builds strictly, and its commands, keys and files are tested; examples and notebook run."""
    return run_tests("practical", 3)


def box_4() -> list[str]:
    """The table of peers, side by side, with raw figures; what it says of each is that of the results, misses included."""
    claims = (
        "peers.run_clm_whole_ratio",
        "peers.litgpt_speed_ratio",
        "peers.ray_template_speed_ratio",
        "peers.resume_ratio",
        "peers.lm_eval_difference",
    )
    return [*run_tests("practical", 4), *check_results("peers", claims, made_by="make bench-peers")]


def box_5() -> list[str]:
    """Ten questions, answered from `--help` and the documents."""
    return run_tests("practical", 5)


BOXES = [box_1, box_2, box_3, box_4, box_5]


if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
