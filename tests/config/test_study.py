"""Rules across the sections of a study: arms and sources, workers and rows, names."""
# ruff: noqa: E501  (a table of messages is read by its columns)

import pytest

from cpt_ray.config.load import parse_study
from tests.config.spoiled import refusal, spoil


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("arms.legal.mix", {"law": 0.9, "mews": 0.1}, "arms.legal.mix names source 'mews'; known sources: law, news"),
        ("arms.legal.mix", {"law": 0.9, "news": 0.2}, "arms.legal.mix sums to 1.1; weights must be at least 0 and sum to 1"),
        ("arms.legal.mix", {"law": 1.5, "news": -0.5}, "arms.legal.mix sums to 1; weights must be at least 0 and sum to 1"),
        ("arms.legal.cooldown_mix", {"law": 0.5}, "arms.legal.cooldown_mix sums to 0.5; weights must be at least 0 and sum to 1"),
        ("arms.legal.segments", [{"from": "5k", "mix": {"mews": 1.0}}], "arms.legal.segments.0.mix names source 'mews'; known sources: law, news"),
        ("arms.legal.segments", [{"from": "5k", "mix": {"law": 1.0}}, {"from": 5000, "mix": {"news": 1.0}}], "arms.legal.segments must ascend without repeats, saw from [5000, 5000]"),
        ("arms.legal.max_epochs_of", {"mews": 2}, "arms.legal.max_epochs_of names source 'mews'; known sources: law, news"),
    ],
)  # fmt: skip
def test_an_arm_that_contradicts_the_sources_is_refused(tree, key, value, message):
    assert f"study.yaml: {message}" in refusal(spoil(tree, key, value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("runtime.workers", 5, "runtime.workers is 5, but train.global_batch_size is 4 rows, and every worker needs at least one; set runtime.workers to at most 4, or train.global_batch_size to at least 5"),
        ("runtime", {"workers": 2, "gpus_per_worker": 1, "collective_timeout": 300}, "train.compile_limit is 300 s, but workers wait for each other for at most runtime.collective_timeout, 300 s; set train.compile_limit to at most 299"),
        ("runtime.workers", {"min": 1, "max": 5}, "runtime.workers is 1 to 5, but train.global_batch_size is 4 rows"),
    ],
)  # fmt: skip
def test_more_workers_than_rows_are_refused(tree, key, value, message):
    assert f"study.yaml: {message}" in refusal(spoil(tree, key, value))


@pytest.mark.parametrize("section", ["sources", "models"])
def test_a_name_given_twice_is_refused(tree, section):
    tree[section].append(tree[section][0])
    assert f"{section} has two entries named {tree[section][0]['name']!r}" in refusal(tree)


@pytest.mark.parametrize(
    "key",
    [
        "study.name",
        "models.0.name",
        "sources.0.name",
        "evaluate.exams.0.name",
        "evaluate.harness_tasks.0",
        "prepare.decontaminate.tasks.0",
    ],
)
@pytest.mark.parametrize("name", ["../../../evil", "a\nb", "x" * 300, "", "con"])
def test_every_name_in_a_study_follows_one_rule(tree, key, name):
    tree["evaluate"] = {"exams": [{"name": "bar", "path": "p", "label": "l"}], "harness_tasks": ["a"]}
    tree["prepare"] = {"decontaminate": {"tasks": ["a"]}}
    parse_study(tree, place="study.yaml")
    said = refusal(spoil(tree, key, name))
    assert f"study.yaml: {key}: " in said or f"study.yaml: {key}.task: " in said


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../../evil", "study.yaml: arms.../../../evil: a name has only the letters"),
        ("a\nb", "study.yaml: arms.'a\\nb': a name has only the letters"),
        ("x" * 300, "a name has at most 64 characters, saw 300"),
        ("[key]", "study.yaml: arms.[key]: a name has only the letters"),
        ("LEGAL", "arms has 'legal' and 'LEGAL', which are the same file on systems that ignore case; rename one"),
    ],
)
def test_the_name_of_an_arm_follows_it_too(tree, name, message):
    tree["arms"][name] = tree["arms"]["control"]
    assert message in refusal(tree)


def test_two_pairs_of_model_and_arm_with_one_run_name_are_refused(tree):
    tree["models"] = [{"name": "a", "base": "x"}, {"name": "a-b", "base": "y"}]
    tree["arms"] = {"b-c": tree["arms"]["legal"], "d": tree["arms"]["control"]}
    parse_study(tree, place="study.yaml")
    tree["arms"]["c"] = tree["arms"].pop("d")
    assert "the runs of model 'a' with arm 'b-c' and of model 'a-b' with arm 'c' would have the same name" in refusal(tree)


@pytest.mark.parametrize("key", ["train.global_batch_size", "study.seeds.0", "prepare.seed"])
def test_a_number_beyond_64_bits_is_refused(tree, key):
    tree["study"]["seeds"] = [0]
    assert "64 bits" in refusal(spoil(tree, key, "9" * 400))


def test_an_exam_given_twice_is_refused(tree):
    exam = {"name": "bar", "path": "p", "label": "l"}
    assert "evaluate.exams has two entries named 'bar'" in refusal(spoil(tree, "evaluate.exams", [exam, exam]))


def test_every_advice_of_a_contradiction_is_accepted(tree):
    parse_study(spoil(tree, "runtime.workers", 4), place="study.yaml")
    parse_study(spoil(tree, "train.schedule", {"warmup": 8000}), place="study.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "schedule",
            {"shape": "cosine"},
            "arms.legal.cooldown_mix is set, but train.schedule.shape is cosine, which decays from the end of warm-up and has "
            "no separate cooldown; put the mixture under arms.legal.segments, or set train.schedule.shape to constant_cooldown",
        ),
        (
            "budget_mode",
            "chain",
            "arms.legal.cooldown_mix is set, but train.budget_mode is chain, where every stage has a cooldown; put the mixtures "
            "under arms.legal.segments, or set train.budget_mode to branch or independent",
        ),
    ],
)
def test_a_cooldown_mixture_without_a_single_cooldown_is_refused(tree, key, value, message):
    parse_study(spoil(tree, "arms.legal.cooldown_mix", {"law": 1.0}), place="study.yaml")  # the control
    tree["train"] |= {"budget_mode": "independent", key: value}
    assert message in refusal(tree)


def test_a_mixture_of_known_sources_that_sums_to_one_is_accepted(tree):
    study = parse_study(spoil(tree, "arms.legal.mix", {"law": 0.5, "news": 0.5}), place="study.yaml")
    assert study.arms["legal"].mixes() == {"mix": {"law": 0.5, "news": 0.5}}
