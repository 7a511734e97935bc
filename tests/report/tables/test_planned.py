"""The plan beside what was measured."""

from dataclasses import replace

import pytest

from cpt_ray.report.tables.planned import planned_table
from tests.report.made_up import make_contents
from tests.report.test_page import trained_otherwise


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


def test_it_says_when_the_plan_was_made():
    contents = make_contents()
    assert planned_table(contents).lead.startswith("The plan is worked out again from the settings")
    foreseen = replace(contents, planned=replace(contents.planned, foreseen=True))
    assert planned_table(foreseen).lead.startswith("The plan is that of cpt-ray plan when the study's commands began")


def test_on_cpus_the_largest_model_is_compared_with_the_highest_peak_and_the_first_run_is_told():
    contents = make_contents()
    on_cpu = replace(contents.planned, on_gpu=False, peak_bytes={"small": 1_000_000_000, "large": 4_000_000_000})
    peaks = iter((2_000_000_000, 5_000_000_000, 4_500_000_000, 4_400_000_000, 4_300_000_000, 4_200_000_000))
    runs = tuple(
        trained_otherwise(run, cost=run.training.cost.model_copy(update={"host_peak_bytes": next(peaks)}))
        if run.training
        else run
        for run in contents.runs
    )
    (row, *_) = planned_table(replace(contents, planned=on_cpu, runs=runs)).rows
    assert (row[0].text, row[1].raw, row[2].raw) == ("memory of a worker", 4_000_000_000, 5_000_000_000)
    assert row[2].small[0].endswith("in its first run")
    assert row[3].raw == pytest.approx(-0.2)


def test_what_was_not_measured_is_left_out_and_nothing_is_compared_without_a_plan():
    contents = make_contents()
    unmeasured = replace(contents.planned, on_gpu=False, measured_seconds={}, peak_bytes={})
    assert planned_table(replace(contents, planned=None)) is None
    assert planned_table(replace(contents, planned=unmeasured)) is None


def test_a_grid_is_compared_as_a_whole_and_it_is_said_whose_memory_it_is():
    contents = make_contents()
    table = planned_table(replace(contents, planned=replace(contents.planned, cells=6)))
    assert {row[0].text for row in table.rows} > {"time of prepare", "time of train"}
    assert table.notes[-1].startswith("Times are of the 6 cells together, what they share counted once; memory is that of")
