"""The shape of a model, before and after its import, with the adapters that training adds."""

from __future__ import annotations

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.records import ImportedModel
from cpt_ray.study import store
from cpt_ray.study.cost.shapes import model_shapes
from cpt_ray.study.stages.models import MODELS
from tests.study.planned import BareSession, graph_of


def shapes(graph):
    return model_shapes(graph)


def test_a_base_has_the_same_shape_before_and_after_its_import(tiny):
    graph = graph_of(tiny)
    before = shapes(graph)["tiny"]
    MODELS.build(graph.of(MODELS), BareSession(graph.root))
    graph = graph_of(tiny)
    assert shapes(graph)["tiny"] == before == store.load(graph.one(MODELS)).shape
    assert before.parameters > before.body_parameters > 0


def test_an_imported_base_is_described_by_its_record_and_nothing_is_loaded(tiny, monkeypatch):
    from cpt_ray.study.cost import shapes as module

    graph = graph_of(tiny)
    MODELS.build(graph.of(MODELS), BareSession(graph.root))

    def refuse(_):
        raise AssertionError("the base was described again")

    monkeypatch.setattr(module, "_describe_base", refuse)
    assert shapes(graph)["tiny"] == ImportedModel.of(graph.one(MODELS).folder).shape


def test_adapters_are_counted_where_the_study_trains_them(tiny):
    whole = shapes(graph_of(tiny))["tiny"]
    adapted = shapes(graph_of(tiny, "train.lora={rank: 4, alpha: 8}"))["tiny"]
    assert 0 < adapted.trained_parameters < whole.parameters
    assert adapted.parameters >= whole.parameters


def test_frozen_weights_are_counted_and_a_pattern_without_a_match_is_refused(tiny):
    whole = shapes(graph_of(tiny))["tiny"]
    partly = shapes(graph_of(tiny, "train.freeze=['*.layers.0.*']"))["tiny"]
    assert 0 < partly.trained_parameters < whole.trained_parameters == partly.parameters
    with pytest.raises(
        ConfigError, match=r"train\.freeze: '\*\.layer\.0\.\*' matches no parameter of LlamaForCausalLM"
    ) as error:
        shapes(graph_of(tiny, "train.freeze=['*.layer.0.*']"))
    assert "model.layers.0." in error.value.fix


def test_a_base_without_a_readable_config_is_refused(tiny):
    (tiny.model / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"models\.tiny\.base: the shape of .* cannot be read: ") as error:
        shapes(graph_of(tiny))
    assert "config.json" in error.value.fix


def test_a_base_is_described_once_for_all_cells_of_a_grid_of_flops_budgets(tiny, monkeypatch):
    from cpt_ray.study.cost import shapes as module

    described, real = [], module._describe_base
    monkeypatch.setattr(module, "_describe_base", lambda model: described.append(model.name) or real(model))
    rate = "axes.rate={key: train.learning_rate_factor, values: [0.5, 1.0, 2.0]}"
    graph_of(tiny, rate, "train.budgets=null", "train.budgets_flops=[1e9, 2e9]")
    assert described == ["tiny"]
