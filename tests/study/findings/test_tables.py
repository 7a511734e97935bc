"""Scores and losses as tables."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cpt_ray import Study
from cpt_ray.errors import ConfigError
from tests.integration.finished import LARGE, TRUNK


@pytest.fixture
def study(finished_study) -> Study:
    return Study.load(finished_study.study.config)


@pytest.mark.ray
def test_results_are_a_table_with_the_ends_of_the_intervals(study, finished_study):
    table = study.results()
    assert isinstance(table, pa.Table)
    columns = ["run", "model", "arm", "seed", "budget_tokens", "tokens", "set", "metric", "value", "low", "high"]
    assert table.column_names == columns
    frame = table.to_pandas().set_index(["run", "set", "metric"])
    record = next(one for one in study.driver().evaluations() if one.run == LARGE)
    law = next(one for one in record.held_out if (one.source, one.part) == ("law", "test"))
    assert frame.loc[(LARGE, "law", "bits_per_byte"), "value"] == law.bits_per_byte
    assert frame.loc[(LARGE, "tiny_exam", "accuracy"), "value"] == record.exams[0].accuracy
    interval = record.exams[0].accuracy_interval
    row = frame.loc[(LARGE, "tiny_exam", "accuracy")]
    assert (row["low"] == interval.low and row["high"] == interval.high) if interval else row[["low", "high"]].isna().all()
    assert set(table["run"].to_pylist()) == {one.run for one in study.driver().evaluations()}


@pytest.mark.ray
def test_losses_are_the_steps_of_a_run(study):
    table = study.losses(TRUNK)
    assert table["step"].to_pylist() == list(range(1, table.num_rows + 1))
    assert table["loss"].to_pylist()[-1] < table["loss"].to_pylist()[0]
    with pytest.raises(ConfigError, match=f"there is no run 'trunk' in this study\n  fix: name one of {TRUNK}"):
        study.losses("trunk")
