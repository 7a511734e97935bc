"""Runs as artifacts: the settings their workers get, what decides their address, and budgets in FLOPs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.train import TRAIN, deepspeed_path
from tests.integration.finished import CONTROL, LARGE, SMALL, TRUNK
from tests.study.planned import graph_of


def test_parents_come_first_and_every_run_has_its_models_shards(tiny):
    graph = graph_of(tiny)
    assert [node.name for node in graph.of(TRAIN)] == [TRUNK, SMALL, LARGE, CONTROL]
    assert {node.input("shards") for node in graph.of(TRAIN)} == {graph.one(SHARDS)}
    trunk = graph.one(TRAIN, TRUNK)
    assert [node.inputs.get("parent") for node in graph.of(TRAIN)] == [None, trunk, trunk, None]


def test_workers_get_resolved_sections_and_no_study(tiny):
    settings = graph_of(tiny).one(TRAIN, CONTROL).work.settings
    assert (settings.study, settings.model.name, settings.arm.role) == ("tiny", "tiny", "control")
    assert settings.deepspeed.zero_stage == 2
    assert settings.licenses == {"law": None, "news": None}


def test_only_what_is_computed_is_in_the_address(tiny):
    node = graph_of(tiny).one(TRAIN, SMALL)
    assert set(node.settings) == {
        "deepspeed", "mix", "segments", "cooldown_mix", "spec", "precision", "export_precision", "global_batch_size",
        "isolation", "weight_decay", "beta1", "beta2", "epsilon", "gradient_clipping", "lora", "shuffle_window",
        "optimizer", "freeze", "embedding_learning_rate_factor",
    }  # fmt: skip
    assert "cooldown_mix" not in graph_of(tiny).one(TRAIN, TRUNK).settings


def test_an_optimizer_that_zero_takes_apart_is_refused_before_anything_runs(tiny):
    message = "train.optimizer is adafactor, but train.deepspeed has ZeRO stage 2"
    with pytest.raises(ConfigError, match=message):
        graph_of(tiny, "train.optimizer=adafactor")


def test_a_budget_in_flops_is_turned_into_each_models_tokens(tiny):
    train = load_study(tiny.config).train.model_dump(mode="json", exclude_unset=True, exclude={"budgets"})
    tiny.change(train={**train, "budgets_flops": ["2e9"]})
    specs = [node.work.spec for node in graph_of(tiny).of(TRAIN)]
    assert {spec.budget_flops for spec in specs if spec.budget_tokens} == {2e9}
    assert all(spec.budget_tokens > 0 for spec in specs if spec.budget_tokens is not None)
    with pytest.raises(ConfigError) as error:
        graph_of(tiny, "train.budgets_flops=[1000]")
    assert "train.budgets_flops" in error.value.fix


def test_a_deepspeed_file_is_looked_for_here_and_then_beside_the_study(tiny, tmp_path, monkeypatch):
    config = load_study(tiny.config, ("train.deepspeed=mine.json",))
    beside = tiny.config.parent / "mine.json"
    beside.write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    monkeypatch.chdir(tmp_path)
    assert deepspeed_path(config.train.deepspeed, tiny.config) == beside
    Path("mine.json").write_text("{}")
    assert deepspeed_path(config.train.deepspeed, tiny.config) == tmp_path / "mine.json"
