"""A node has a label and inputs, and artifacts built one by one are committed one by one."""

from __future__ import annotations

import pytest

from cpt_ray.study import store
from cpt_ray.study.stages.stage import Planned, Stage, one_by_one
from tests.study.planned import BareSession


def stage_of(build=lambda node, session: None):
    return Stage("toys", 1, "prepare", lambda graph: (), one_by_one(build), None, files=("*",))


def node(root, name, inputs=None, stage=None):
    return store.locate(root, stage or stage_of(), Planned(name, inputs=inputs or {}, settings={}, work=None))


def test_a_node_is_called_by_stage_name_and_the_start_of_its_fingerprint(tmp_path):
    toy = node(tmp_path, "bear")
    assert toy.label == f"toys/bear-{toy.fingerprint[:8]}"
    assert toy.folder == tmp_path / toy.label


def test_inputs_are_artifacts_or_fingerprints_of_what_is_outside(tmp_path):
    bear = node(tmp_path, "bear")
    shelf = node(tmp_path, "shelf", {"bear": bear, "wood": "oak"})
    assert shelf.input("bear") is bear
    assert shelf.input_fingerprints == {"bear": bear.fingerprint, "wood": "oak"}
    with pytest.raises(TypeError, match=r"input 'wood' of toys/shelf-\w+ is read from outside the study"):
        shelf.input("wood")
    with pytest.raises(KeyError):
        shelf.input("nails")


def test_what_was_built_before_one_that_fails_stays_built(tmp_path):
    def build(toy, session):
        if toy.name == "broken":
            raise OSError("disk full")
        (toy.folder / "toy.txt").write_text(toy.name)

    stage, session = stage_of(build), BareSession(tmp_path)
    toys = [node(tmp_path, name, stage=stage) for name in ("bear", "broken", "car")]
    with pytest.raises(OSError, match="disk full"):
        stage.build(toys, session)
    assert session.committed == [toys[0].label]
    assert [store.exists(toy) for toy in toys] == [True, False, False]
    assert [entry.path for entry in store.find(toys[0]).files] == ["toy.txt"]
