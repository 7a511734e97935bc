"""A base and its tokenizer become a folder that every other stage loads."""

from __future__ import annotations

import json

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.study import store
from cpt_ray.study.stages.models import MODELS
from tests.study.planned import BareSession, graph_of


def test_each_model_is_imported_once_without_ray(tiny):
    graph = graph_of(tiny)
    session = BareSession(graph.root)
    (node,) = graph.of(MODELS)
    MODELS.build([node], session)
    assert session.asked_for_ray == 0
    imported = store.load(node)
    base = json.loads((tiny.model / "config.json").read_text())
    assert (imported.shape.hidden_size, imported.shape.num_layers) == (base["hidden_size"], base["num_hidden_layers"])
    assert {entry.path for entry in store.find(node).files} >= {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("setting", ["revision=abc", "new_tokens=[usufruct]"])
def test_what_changes_the_imported_folder_changes_its_address(tiny, setting):
    assert graph_of(tiny).one(MODELS).fingerprint != graph_of(tiny, f"models.0.{setting}").one(MODELS).fingerprint


@pytest.mark.parametrize("setting", ["license=MIT", "note=ours", "trust_remote_code=true", "separator=x"])
def test_what_does_not_change_it_leaves_its_address(tiny, setting):
    assert graph_of(tiny).one(MODELS).fingerprint == graph_of(tiny, f"models.0.{setting}").one(MODELS).fingerprint


def test_a_base_that_cannot_be_loaded_leaves_no_artifact(tiny):
    (tiny.model / "model.safetensors").write_bytes(b"no weights")
    graph = graph_of(tiny)
    node = graph.one(MODELS)
    with pytest.raises(ConfigError, match=r"models\.tiny\.base: .*is not a whole safetensors file"):
        MODELS.build([node], BareSession(graph.root))
    assert not store.exists(node)
