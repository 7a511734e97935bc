"""Tables of how it was done."""

from dataclasses import replace

import pytest

from cpt_ray.records import RunEvent
from cpt_ray.report.index import Index
from cpt_ray.report.tables.runs import kernels, mfu_bases, run_table, warning_table, watch_table
from tests.report.made_up import FLOPS_BASIS, PEAK_BASIS, make_contents


def test_shares_of_time_are_of_steps_checkpoints_and_held_out_losses_together():
    contents = make_contents()
    table = watch_table(Index(contents))
    wall = contents.runs[1].training.cost.wall_s
    assert table.rows[0][1].raw == pytest.approx(wall + 4.2 + 6.1)
    assert table.rows[0][3].raw == pytest.approx(4.2 / (wall + 4.2 + 6.1))
    assert "base" not in {row[0].text for row in table.rows}
    assert watch_table(Index(replace(contents, runs=contents.runs[:1]))) is None


def test_a_warning_is_one_row_however_many_workers_and_steps_said_it():
    def warned(step, rank, text="uneven batch split"):
        return RunEvent(kind="warning", attempt=1, step=step, tokens_seen=0, text=text, rank=rank)

    contents = replace(make_contents(), warnings={"a": (warned(5, 0), warned(2, 1), warned(7, 1), warned(1, 0, "other"))})
    rows = [[row[0].text, row[2].text, row[3].raw, row[4].raw] for row in warning_table(contents).rows]
    assert rows == [["a", "uneven batch split", 2, 2], ["a", "other", 1, 1]]
    assert warning_table(make_contents()) is None


def test_runs_stand_under_their_full_and_their_short_name():
    rows = run_table(Index(make_contents())).rows
    assert [row[1].text for row in rows[:3]] == ["base", "legal trunk", "legal 6M"]
    assert rows[2][0].text == "smollm2-135m-legal-6000000-seed0"
    assert len({len(row) for row in rows}) == 1


def test_what_computed_the_runs_and_the_bases_of_mfu_are_listed_once():
    assert kernels(make_contents()) == [("sdpa", "q_proj+k_proj+v_proj in 30 layers", "compiled chunks")]
    assert mfu_bases(make_contents()) == [(PEAK_BASIS, FLOPS_BASIS)]
