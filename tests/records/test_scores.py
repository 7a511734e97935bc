"""Scores and comparisons as files: they round-trip, are stored under their names, and reject unknown fields."""

from __future__ import annotations

import pytest

from cpt_ray.records import Comparison, EvalRecord
from tests.report.made_up import BASE, delta, evaluation, make_contents


@pytest.mark.parametrize("record", [evaluation(BASE, None, 0, 1.3, 1.1, 0.3), make_contents().comparison], ids=type)
def test_they_come_back_as_they_were_written(record, tmp_path):
    (tmp_path / record.FILE).write_text(record.to_json())
    assert type(record).of(tmp_path) == record


def test_each_has_a_file_of_its_own():
    assert (EvalRecord.FILE, Comparison.FILE) == ("evaluation.json", "comparison.json")


def test_a_field_that_is_not_known_is_an_error_and_not_lost():
    tree = evaluation(BASE, None, 0, 1.3, 1.1, 0.3).model_dump()
    with pytest.raises(ValueError, match="accuracy_of_everything"):
        EvalRecord.model_validate({**tree, "accuracy_of_everything": 1.0})


def test_a_measured_loss_ranks_above_a_larger_one_that_may_be_chance():
    measured = delta("a", "b", "news", (1.02, 1.0), 0.01, better=False)
    chance = delta("a", "b", "news", (1.5, 1.0), 0.6, better=None)
    gain = delta("a", "b", "news", (0.9, 1.0), 0.01, better=True)
    assert sorted([measured, gain, chance], key=lambda one: one.loss_rank) == [gain, chance, measured]
