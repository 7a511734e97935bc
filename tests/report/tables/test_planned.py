"""The plan beside what was measured."""

from dataclasses import replace

import pytest

from cpt_ray.report.tables.planned import planned_table
from tests.report.made_up import make_contents


def test_a_plan_is_compared_with_the_highest_peak_and_with_the_time_of_each_stage():
    contents = make_contents()
    peak = max(run.training.cost.device_peak_bytes for run in contents.runs if run.training)
    table = planned_table(contents)
    rows = {row[0].text: row[1:] for row in table.rows}
    assert set(rows) == {"GPU memory of a worker, smollm2-135m", "time of prepare", "time of train"}
    planned, measured, difference = rows["GPU memory of a worker, smollm2-135m"]
    assert (planned.raw, measured.raw) == (1_345_000_000, peak)
    assert difference.raw == pytest.approx(1_345_000_000 / peak - 1)
    assert rows["time of train"][2].text == "+17.4\N{NO-BREAK SPACE}%"  # 1,200 of 1,021.8
    assert table.notes == ("Times rest on steps measured by --measure.",)


def test_what_was_not_measured_is_left_out_and_nothing_is_compared_without_a_plan():
    contents = make_contents()
    on_cpu = replace(contents.planned, on_gpu=False, measured_seconds={})
    hosts = [run.training.cost.host_peak_bytes for run in contents.runs if run.training]
    table = planned_table(replace(contents, planned=on_cpu))
    assert [row[0].text for row in table.rows] == (["memory of a worker, smollm2-135m"] if any(hosts) else [])
    assert planned_table(replace(contents, planned=None)) is None
    assert planned_table(replace(contents, planned=replace(on_cpu, peak_bytes={}))) is None
