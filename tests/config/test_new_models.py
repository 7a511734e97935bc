"""Keys of models that start from random weights: what they need, and what makes no sense for them."""

from __future__ import annotations

import pytest

from cpt_ray.config.budgets import peak_rate
from cpt_ray.config.load import parse_study
from cpt_ray.config.sections.models.init import TrainTokenizerConfig
from cpt_ray.errors import ConfigError
from cpt_ray.train.runs.specs import plan_runs

NEW = {
    "name": "new",
    "base": "init",
    "config": {"architecture": "llama", "hidden_size": 64},
    "train_tokenizer": {"vocabulary": "2k", "sources": ["law", "news"]},
}


def parsed(tree, **changes):
    model = {key: value for key, value in {**NEW, **changes}.items() if value is not None}
    return parse_study({**tree, "models": [model]}, place="small.yaml")


def refused(tree, **changes):
    with pytest.raises(ConfigError) as caught:
        parsed(tree, **changes)
    return str(caught.value)


def test_a_new_model_needs_a_config_and_one_tokenizer(tree):
    model = parsed(tree).models[0]
    assert model.is_new
    assert model.init_seed == 0
    assert model.train_tokenizer == TrainTokenizerConfig(vocabulary=2000, sources=("law", "news"))
    assert parsed(tree, train_tokenizer=None, tokenizer="some/folder").models[0].tokenizer == "some/folder"


@pytest.mark.parametrize(
    ("changes", "problem", "fix"),
    [
        ({"config": None}, "models.new has base: init, but no config", "{architecture: llama, hidden_size: 128"),
        ({"config": {"hidden_size": 64}}, "models.new.config needs architecture", "for example {architecture: llama"),
        ({"config": {"architecture": 3}}, "models.new.config needs architecture", "for example {architecture: llama"),
        ({"train_tokenizer": None}, "base: init and no tokenizer", "{vocabulary: 8k, sources: [law, news]}"),
        ({"tokenizer": "a"}, "base: init and both tokenizer and train_tokenizer", "set models.new.tokenizer"),
        ({"revision": "main"}, "models.new.revision pins what comes from the hub", "leave revision out"),
        ({"peak_learning_rate": 1e-3}, "models.new.peak_learning_rate is of a trained base", "set train.learning_rate"),
        ({"final_learning_rate": 1e-5}, "models.new.final_learning_rate is of a trained base", "leave final_learning_rate"),
        ({"new_tokens": ["usufruct"]}, "models.new.new_tokens is of a trained base", "let its tokenizer have them"),
        (
            {"train_tokenizer": {"vocabulary": "2k", "sources": ["laws"]}},
            "models.new.train_tokenizer.sources names source 'laws'",
            "known sources: law, news",
        ),
        ({"train_tokenizer": {"vocabulary": 256, "sources": ["law"]}}, "models.0.train_tokenizer.vocabulary", "300"),
        ({"train_tokenizer": {"vocabulry": 2000, "sources": ["law"]}}, "unknown key", "models.0.train_tokenizer.vocabulary?"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("models") else None,
)
def test_what_a_new_model_lacks_or_must_not_have_is_named_with_a_fix(tree, changes, problem, fix):
    said = refused(tree, **changes)
    assert problem in said
    assert fix in said


@pytest.mark.parametrize(("role", "kind"), [("probe", "a probe source"), ("seed", "a seed source")])
def test_a_tokenizer_is_not_learned_from_text_that_no_arm_may_train_on(tree, role, kind):
    tree["sources"].append({"name": "apart", "role": role, "path": "apart/*.jsonl"})
    said = refused(tree, train_tokenizer={"vocabulary": 2000, "sources": ["apart"]})
    assert f"names apart, {kind}, which no arm may train on" in said


def test_a_tokenizer_is_not_learned_from_a_derived_source(tree):
    tree["sources"].append({"name": "some", "from": "news", "where": "good >= 0.5"})
    tree["classifiers"] = [{"name": "good", "positive": {"sources": ["law"]}, "negative": {"sources": ["news"]}}]
    assert "names some, which is derived" in refused(tree, train_tokenizer={"vocabulary": 2000, "sources": ["some"]})


@pytest.mark.parametrize("key", ["config", "train_tokenizer", "init_seed"])
def test_a_trained_base_has_none_of_the_keys_of_a_new_one(tree, key):
    value = {**NEW, "init_seed": 3}[key]
    said = refused(tree, **{"base": "some/base", "config": None, "train_tokenizer": None, key: value})
    assert f"models.new.{key} is for base: init, but its base is 'some/base'" in said
    assert f"leave {key} out, or set base to init" in said


@pytest.mark.parametrize("setting", ["train.learning_rate", "train.schedule.warmup_from"])
def test_a_new_model_has_no_rate_of_its_own(tree, setting):
    section = tree["train"] if setting == "train.learning_rate" else tree["train"].setdefault("schedule", {})
    section[setting.rpartition(".")[2]] = "base_final"
    said = refused(tree)
    assert f"{setting} is base_final, but model new starts from random weights" in said
    assert f"set {setting} to {'a number' if setting == 'train.learning_rate' else 'zero'}" in said


def test_each_model_can_have_a_rate_of_its_own(tree):
    small, large = {**NEW, "name": "small", "learning_rate_factor": 4}, {**NEW, "name": "large"}
    tree["train"]["learning_rate_factor"] = 0.5
    config = parse_study({**tree, "models": [small, large]}, place="small.yaml")
    assert [peak_rate(config.train, model) for model in config.models] == [2e-4, 5e-5]
    rates = {(spec.model, spec.schedule.peak_rate) for spec in plan_runs(config)}
    assert rates == {("small", 2e-4), ("large", 5e-5)}


def test_an_arm_may_train_on_general_text_for_its_own_sake(tree):
    tree["sources"] = tree["sources"][1:]
    tree["arms"] = {"general": {"role": "general", "mix": {"news": 1.0}}}
    config = parsed(tree, train_tokenizer={"vocabulary": 2000, "sources": ["news"]})
    budgets = {spec.budget_tokens for spec in plan_runs(config)}
    assert budgets == {None, 10_000, 20_000}  # not only the largest, as a control
