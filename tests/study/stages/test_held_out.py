"""Held-out sets: one artifact per study, drawn from the documents before any arm, model or budget."""

from __future__ import annotations

import pytest

from cpt_ray.study import store
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.shards import SHARDS
from tests.study.planned import graph_of


def test_it_depends_on_the_documents_and_on_its_own_settings_alone(tiny):
    node = graph_of(tiny).one(HELD_OUT)
    assert set(node.inputs) == {"documents"}
    assert node.input("documents").stage is DOCUMENTS
    assert set(node.settings) == {"seed", "held_out"}


def test_packing_scoring_and_every_arm_share_the_one_draw(tiny):
    graph = graph_of(tiny)
    node = graph.one(HELD_OUT)
    users = [*graph.of(SHARDS), *graph.of(EVALUATE)]
    assert len(users) > 3
    assert {user.input("held_out") for user in users} == {node}


@pytest.mark.ray
def test_every_source_has_a_validation_and_a_test_set(prepared_study):
    graph = graph_of(prepared_study)
    record = store.load(graph.one(HELD_OUT))
    assert {(of.source, of.part) for of in record.sets} == {
        (source, part) for source in ("law", "news") for part in ("validation", "test")
    }
    for of in record.sets:
        lines = (graph.one(HELD_OUT).folder / of.path).read_text().splitlines()
        assert len(lines) == of.documents > 0
