"""Reading a study file: what is understood, and the words of every refusal."""
# ruff: noqa: E501  (a table of messages is read by its columns)

import re

import pytest
import yaml

from cpt_ray.config.load import dump_study, load_study, parse_study
from cpt_ray.errors import ConfigError


def refusal(tree):
    with pytest.raises(ConfigError) as caught:
        parse_study(tree, place="study.yaml")
    return str(caught.value)


def spoil(tree, key, value):
    """Set `a.b.0.c` in a tree of plain values."""
    *parents, last = key.split(".")
    node = tree
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    node[last] = value
    return tree


def test_a_right_study_is_read(study_file):
    study = load_study(study_file)
    assert study.train.budgets == (10_000, 20_000)
    assert study.sources[0].path == ("law/*.jsonl",)


def test_the_resolved_study_reads_back_as_itself(study_file):
    study = load_study(study_file, ("prepare.clean.min_bytes=null", "evaluate.exams=[{name: e, path: p, label: l}]"))
    assert parse_study(yaml.safe_load(dump_study(study)), place="again") == study


def test_a_weight_schedule_reads_back_as_it_was_written(tree):
    tree["arms"]["legal"] |= {"segments": [{"from": "5k", "mix": {"news": 1.0}}], "cooldown_mix": {"law": 1.0}}
    study = parse_study(tree, place="study.yaml")
    assert study.arms["legal"].segments[0].from_tokens == 5000
    written = yaml.safe_load(dump_study(study))
    assert written["arms"]["legal"]["segments"] == [{"from": 5000, "mix": {"news": 1.0}}]
    assert parse_study(written, place="again") == study


def test_a_study_cannot_be_changed_after_it_was_read(study_file):
    with pytest.raises(ValueError, match="frozen"):
        load_study(study_file).train.learning_rate = 1.0


@pytest.mark.parametrize(
    ("key", "value", "problem", "fix"),
    [
        ("train.learnin_rate", 1, "unknown key train.learnin_rate", "did you mean train.learning_rate?"),
        (
            "prepare.pack.sequence_lenght",
            8,
            "unknown key prepare.pack.sequence_lenght",
            "did you mean prepare.pack.sequence_length?",
        ),
        ("sources.0.formatt", "csv", "unknown key sources.0.formatt", "did you mean sources.0.format?"),
        ("arms.legal.mixx", {}, "unknown key arms.legal.mixx", "did you mean arms.legal.mix?"),
        (
            "arms.legal.segments",
            [{"form": 1, "mix": {"law": 1}}],
            "unknown key arms.legal.segments.0.form",
            "did you mean arms.legal.segments.0.from?",
        ),
        ("trian", {}, "unknown key trian", "did you mean train?"),
        ("tracking.zzz", 1, "unknown key tracking.zzz", "known keys: uri, experiment"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(tree, key, value, problem, fix):
    message = refusal(spoil(tree, key, value))
    assert message.startswith(f"study.yaml: {problem}")
    assert f"fix: {fix}" in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.learning_rate", 0, "train.learning_rate: expected a number above 0, base_peak or base_final, saw 0"),
        ("train.learning_rate", float("nan"), "train.learning_rate: expected a number above 0, base_peak or base_final, saw nan"),
        ("train.precision", "fp8", "train.precision: Input should be 'bf16', 'fp16' or 'fp32', saw 'fp8'"),
        ("train.budgets", ["lots"], "train.budgets.0: expected a quantity such as 400M, saw 'lots'"),
        ("train", None, "train: expected a section with keys budgets, "),
        ("study.name", "Has Spaces", "study.name: String should match pattern"),
        ("arms.legal.mix", {"law": 0.9, "mews": 0.1}, "arms.legal.mix names source 'mews'; known sources: law, news"),
        ("arms.legal.mix", {"law": 0.9, "news": 0.2}, "arms.legal.mix sums to 1.1; weights must be at least 0 and sum to 1"),
        ("arms.legal.mix", {"law": 1.5, "news": -0.5}, "arms.legal.mix sums to 1; weights must be at least 0 and sum to 1"),
        ("arms.legal.cooldown_mix", {"law": 0.5}, "arms.legal.cooldown_mix sums to 0.5; weights must be at least 0 and sum to 1"),
        ("arms.legal.segments", [{"from": "5k", "mix": {"mews": 1.0}}], "arms.legal.segments.0.mix names source 'mews'; known sources: law, news"),
        ("arms.legal.segments", [{"from": "5k", "mix": {"law": 1.0}}, {"from": 5000, "mix": {"news": 1.0}}], "arms.legal.segments must ascend without repeats, saw from [5000, 5000]"),
        ("arms.legal.segments", [{"from": 0, "mix": {"law": 1.0}}], "arms.legal.segments.0.from: Input should be greater than or equal to 1, saw 0"),
        ("arms.legal.max_epochs_of", {"mews": 2}, "arms.legal.max_epochs_of names source 'mews'; known sources: law, news"),
        ("arms.legal.max_epochs_of", {"law": 0}, "arms.legal.max_epochs_of.law: Input should be greater than 0, saw 0"),
        ("train.shuffle_window", 0, "train.shuffle_window: Input should be greater than or equal to 1, saw 0"),
        ("train.budgets", ["20k", "10k"], "train.budgets must be above 0 and ascend without repeats, saw [20000, 10000]"),
        ("train.budgets", ["10k", "10k"], "train.budgets must be above 0 and ascend without repeats, saw [10000, 10000]"),
        ("train.budgets", [0, "10k"], "train.budgets must be above 0 and ascend without repeats, saw [0, 10000]"),
        ("train.schedule", {"warmup": "9k"}, "train.schedule.warmup is 9000 tokens, but the cooldown of the smallest budget, 10000, begins at 8000; set train.schedule.warmup to at most 8000"),
        ("runtime.workers", 5, "runtime.workers is 5, but train.global_batch_size is 4 rows, and every worker needs at least one; set runtime.workers to at most 4, or train.global_batch_size to at least 5"),
        ("runtime", {"kind": "local", "workers": 2}, "runtime.kind local runs one process, but runtime.workers is 2; set it to 1"),
        ("runtime.workers", {"min": 1, "max": 5}, "runtime.workers is 1 to 5, but train.global_batch_size is 4 rows"),
        ("runtime.workers", {"min": 3, "max": 2}, "runtime.workers: min is 3, but max is 2; swap them"),
        ("runtime.workers", 0, "runtime.workers.min: Input should be greater than or equal to 1, saw 0"),
        ("runtime.workers", "many", "runtime.workers: expected a number of workers, or {min: 1, max: 8}, saw 'many'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_is_allowed(tree, key, value, message):
    assert f"study.yaml: {message}" in refusal(spoil(tree, key, value))


def test_every_advice_of_a_contradiction_is_accepted(tree):
    parse_study(spoil(tree, "runtime.workers", 4), place="study.yaml")
    parse_study(spoil(tree, "train.schedule", {"warmup": 8000}), place="study.yaml")


@pytest.mark.parametrize("section", ["sources", "models"])
def test_a_name_given_twice_is_refused(tree, section):
    tree[section].append(tree[section][0])
    assert f"{section} has two entries named {tree[section][0]['name']!r}" in refusal(tree)


def test_an_exam_given_twice_is_refused(tree):
    exam = {"name": "bar", "path": "p", "label": "l"}
    assert "evaluate.exams has two entries named 'bar'" in refusal(spoil(tree, "evaluate.exams", [exam, exam]))


def test_a_missing_key_is_named(tree):
    del tree["train"]["learning_rate"]
    assert refusal(tree) == (
        "study.yaml: missing key train.learning_rate\n  fix: add train.learning_rate; configs/README.md describes it"
    )


def test_the_number_of_further_problems_is_told(tree):
    del tree["train"]["learning_rate"]
    del tree["train"]["global_batch_size"]
    assert "(and 1 more)" in refusal(tree)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"study: [", "not valid YAML: while parsing"),
        (b"- a\n- b\n", "expected a mapping of sections at the top"),
        (b"", "expected a mapping of sections at the top"),
        (b"study: \xff\xfe\n", "not UTF-8 text: invalid start byte"),
        (b"train:\n  budgets: [1]\n  budgets: [2]\n", "key 'budgets' is given twice"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_study(path)
    assert str(path) in caught.value.problem


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.yaml: no such study file\n  fix: give the path of a YAML file"):
        load_study(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_study(tmp_path)


def test_a_learning_rate_without_a_point_is_a_number_in_the_file_too(study_file):
    # YAML 1.1 reads `1e-4` as a string.
    study_file.write_text(study_file.read_text().replace("learning_rate: 0.0001", "learning_rate: 3e-4"))
    assert "3e-4" in study_file.read_text()
    assert load_study(study_file).train.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.learning_rate=1e-5", lambda s: s.train.learning_rate == 1e-5),
        ("train.budgets=[1k, 2k]", lambda s: s.train.budgets == (1000, 2000)),
        ("train.checkpoint_every=1e4", lambda s: s.train.checkpoint_every == 10_000),
        ("sources.news.limit_documents=100", lambda s: s.sources[1].limit_documents == 100),
        ("sources.0.limit_documents=2k", lambda s: s.sources[0].limit_documents == 2000),
        ("models.tiny.revision=12e4567", lambda s: s.models[0].revision == "12e4567"),
        ("prepare.clean.min_bytes=null", lambda s: s.prepare.clean.min_bytes is None),
        ("runtime.kind=local", lambda s: s.runtime.kind == "local"),
    ],
)
def test_an_override_arrives(study_file, override, read):
    assert not read(load_study(study_file))
    assert read(load_study(study_file, (override,)))


def test_the_last_of_two_overrides_wins(study_file):
    assert load_study(study_file, ("study.name=a", "study.name=b")).study.name == "b"


def test_an_override_enters_a_section_that_the_file_leaves_empty(study_file):
    study_file.write_text(study_file.read_text() + "runtime:\n")
    assert load_study(study_file, ("runtime.workers=2",)).runtime.workers.max == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate", "override 'train.learning_rate' does not have the form section.key=value"),
        ("=3", "override '=3' does not have the form section.key=value"),
        (
            "sources.sports.role=domain",
            "no entry 'sports' in a list of 2\n  fix: use an index below 2 or one of the names law, news",
        ),
        ("sources.7.role=domain", "no entry '7' in a list of 2"),
        ("study.name.first=x", "'name' is a value, not a section"),
        ("train.learnin_rate=1", "unknown key train.learnin_rate\n  fix: did you mean train.learning_rate?"),
    ],
)
def test_a_wrong_override_is_refused(study_file, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_study(study_file, (override,))


@pytest.mark.parametrize("written", [2, {"min": 1, "max": 4}])
def test_workers_are_a_number_or_a_range_and_are_saved_as_they_were_written(tree, written):
    config = parse_study(spoil(tree, "runtime.workers", written), place="study.yaml")
    assert config.runtime.workers.elastic == isinstance(written, dict)
    assert config.model_dump(mode="json")["runtime"]["workers"] == written
    assert parse_study(config.model_dump(mode="json"), place="again") == config


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
