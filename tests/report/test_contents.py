"""What the page looks up in its records."""

from __future__ import annotations

from dataclasses import replace

from tests.report.made_up import make_contents


def test_wall_time_is_measured_or_the_sum_of_the_stages():
    contents = make_contents()
    assert contents.total_wall_s == sum(contents.stage_timings.values())
    assert replace(contents, wall_s=10.0).total_wall_s == 10.0
    assert replace(contents, wall_s=0.0).total_wall_s == 0.0
