"""What the page looks up in its records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.report.made_up import BASE, BUDGETS, make_contents

LEGAL = f"smollm2-135m-legal-{BUDGETS[0]}-seed0"


def test_a_run_is_found_by_name_and_a_cell_by_the_first_of_its_seeds():
    contents = make_contents()
    assert contents.find_run(LEGAL).run == LEGAL
    assert contents.find_run(f"smollm2-135m-legal-{BUDGETS[0]} (mean of 3 seeds)").run == LEGAL
    assert contents.find_run(f"smollm2-135m-legal-{BUDGETS[0]}") is None


@pytest.mark.parametrize(
    ("name", "role"),
    [
        (BASE, "base"),
        ("base", "base"),
        (LEGAL, "domain"),
        (f"smollm2-135m-control-{BUDGETS[-1]}-seed0", "control"),
        ("nobody", ""),
    ],
)
def test_every_run_has_the_role_of_its_arm(name, role):
    assert make_contents().role_of(name) == role


def test_an_arm_that_the_study_no_longer_has_gives_no_role():
    assert replace(make_contents(), arms={}).role_of(LEGAL) == ""


def test_wall_time_is_measured_or_the_sum_of_the_stages():
    contents = make_contents()
    assert contents.total_wall_s == sum(contents.stage_timings.values())
    assert replace(contents, wall_s=10.0).total_wall_s == 10.0
    assert replace(contents, wall_s=0.0).total_wall_s == 0.0
