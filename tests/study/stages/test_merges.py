"""Merges as artifacts: their inputs and addresses, when a residual is refused, and runs that an average trains again."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.study.preflight.bases import prove_companions
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.merges import INSTRUCT, MERGES
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.train import TRAIN, trained_again
from tests.integration.finished import LARGE
from tests.study.planned import BareSession, graph_of

FRONTIER = {"name": "frontier", "interpolate": {"weights": [0.5]}}
AVERAGED = {"name": "averaged", "average": {"last": 2, "every": 300}}


def residual(folder, **more):
    return {"name": "chat", "instruction_residual": {"instruct": str(folder), **more}}


@pytest.fixture
def instruct(tiny):
    """A model of the family."""
    shutil.copytree(tiny.model, tiny.inputs / "instruct")
    return tiny.inputs / "instruct"


def lengthen(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(len(tensors["model.norm.weight"]) + 1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_merge_has_its_run_and_models_as_inputs_and_is_scored(tiny, instruct):
    tiny.change(merges=[FRONTIER, AVERAGED, residual(instruct)])
    graph = graph_of(tiny)
    run, base, chat = graph.one(TRAIN, LARGE), graph.one(MODELS), graph.one(INSTRUCT)
    assert [dict(node.inputs) for node in graph.of(MERGES)] == [
        {"run": run, "model": base, "base": base},
        {"run": run, "model": base},
        {"run": run, "model": base, "base": base, "instruct": chat},
    ]
    names = [node.name for node in graph.of(MERGES)]
    assert [node.name for node in graph.of(EVALUATE)][-3:] == names
    assert [node.input("subject") for node in graph.of(EVALUATE)][-3:] == graph.of(MERGES)


def test_interpolation_and_residual_leave_every_other_address_alone_and_an_average_moves_its_run(tiny, instruct):
    def addresses(*merges):
        tiny.change(merges=list(merges))
        return {node.label.rsplit("-", 1)[0]: node.fingerprint for node in graph_of(tiny).all()}

    before, after = addresses(), addresses(FRONTIER, residual(instruct))
    assert {name: after[name] for name in before} == before
    averaged = addresses(AVERAGED)
    assert {name for name in before if averaged[name] != before[name]} == {f"train/{LARGE}", f"evaluate/{LARGE}"}


def test_the_content_of_the_instruct_model_the_scale_and_the_base_are_in_the_address(tiny, instruct):
    def address(**more):
        tiny.change(merges=[residual(instruct, **more)])
        return graph_of(tiny).one(MERGES).fingerprint

    shutil.copytree(tiny.model, tiny.inputs / "other")
    first = address()
    found = {first, address(scale=0.5), address(base=str(tiny.inputs / "other"))}
    lengthen(instruct)
    assert len(found | {address()}) == 4


def test_a_run_that_is_trained_without_its_marks_is_said_to_be_trained_again_and_no_other(tiny):
    plain = graph_of(tiny).one(TRAIN, LARGE)
    tiny.change(merges=[AVERAGED])
    graph = graph_of(tiny)
    assert list(trained_again(graph, graph.root)) == []
    plain.folder.mkdir(parents=True)
    BareSession(graph.root).commit(plain, started=0)
    (line,) = trained_again(graph, graph.root)
    assert line.startswith(f"run {LARGE} is trained, but kept none of the 1 models of its cooldown that an average in merges")
    marked = graph.one(TRAIN, LARGE)
    marked.folder.mkdir(parents=True)
    BareSession(graph.root).commit(marked, started=0)
    assert list(trained_again(graph, graph.root)) == []


@pytest.mark.accept(grid=5)
def test_a_residual_of_another_shape_is_refused_before_anything_is_trained(tiny, instruct):
    tiny.change(merges=[residual(instruct)])
    graph = graph_of(tiny)
    node = graph.one(MERGES)
    assert MERGES.early_check(node) is False  # nothing is imported yet, so there is no answer
    session = BareSession(graph.root)
    MODELS.build(graph.of(MODELS), session)
    INSTRUCT.build(graph.of(INSTRUCT), session)
    assert MERGES.early_check(node) is True
    lengthen(node.input("instruct").folder)
    with pytest.raises(ConfigError, match=r"^merges\.chat\.instruction_residual\.instruct: model\.norm\.weight is") as error:
        MERGES.early_check(node)
    assert "under `of`" in error.value.fix


@pytest.mark.parametrize("break_it", [lengthen, shutil.rmtree], ids=["another shape", "missing"])
def test_check_refuses_a_residual_by_its_key(tiny, instruct, break_it):
    tiny.change(merges=[residual(instruct)])
    assert [facts.model for facts in prove_companions(load_study(tiny.config))] == ["chat-instruct"]
    break_it(instruct)
    with pytest.raises(ConfigError, match=r"^merges\.chat\.instruction_residual\.instruct: "):
        prove_companions(load_study(tiny.config))
