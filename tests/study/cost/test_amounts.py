"""How much text is prepared and scored: assumed before preparation, counted after it."""

from __future__ import annotations

import pytest

from cpt_ray.study import store
from cpt_ray.study.cost.amounts import kept_bytes, scored_text, text_bytes
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.held_out import HELD_OUT
from tests.study.planned import graph_of


def test_before_preparation_text_is_as_large_as_its_files_and_scores_are_assumed(tiny):
    (cell,) = graph_of(tiny).cells
    files = sum((tiny.inputs / f"{name}.jsonl").stat().st_size for name in ("law", "news"))
    assert text_bytes(cell) == kept_bytes(cell) == files
    found = scored_text(cell)
    assert not found.counted
    assert found.lines > 8  # the items of the exam and the documents of two held-out sets
    # The base, two budgets and the control.
    assert found.models == 4


def test_a_source_that_cannot_be_listed_leaves_the_size_unknown(tiny, monkeypatch):
    (cell,) = graph_of(tiny).cells
    monkeypatch.setattr("cpt_ray.study.cost.amounts._source_bytes", lambda source: None if source.name == "law" else 7.0)
    assert text_bytes(cell) is None


@pytest.mark.ray
def test_after_preparation_both_are_counted(prepared_study):
    (cell,) = graph_of(prepared_study).cells
    reports = store.load(cell.one(DOCUMENTS)).reports
    assert text_bytes(cell) == sum(one.input.bytes for one in reports if one.stage == "read")
    # The planted copies are gone.
    assert 0 < kept_bytes(cell) < text_bytes(cell)
    found, sets = scored_text(cell), store.load(cell.one(HELD_OUT)).sets
    assert found.counted
    assert 0 < found.tokens < sum(one.bytes for one in sets)
    # A lower cap scores less.
    fewer = scored_text(graph_of(prepared_study, "evaluate.held_out_documents=2").cells[0])
    assert fewer.tokens < found.tokens
