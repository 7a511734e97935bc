"""Reading a study file: what is accepted, and the message of every refusal."""
# ruff: noqa: E501  (a table of messages is read by its columns)

import re

import pytest
import yaml

from cpt_ray.config.load import _ELSEWHERE, dump_study, load_study, parse_study
from cpt_ray.config.reference.render import schema_keys
from cpt_ray.errors import ConfigError
from tests.config.spoiled import refusal, spoil


def test_a_right_study_is_read(study_file):
    study = load_study(study_file)
    assert study.train.budgets == (10_000, 20_000)
    assert study.sources[0].path == ("law/*.jsonl",)


def test_the_resolved_study_reads_back_as_itself(study_file):
    study = load_study(study_file, ("prepare.clean.min_bytes=null", "evaluate.exams=[{name: e, path: p, label: l}]"))
    assert parse_study(yaml.safe_load(dump_study(study)), place="again") == study


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
        ("train.lr", 1e-4, "unknown key train.lr", "did you mean train.learning_rate?"),
        ("train.max_steps", 10, "unknown key train.max_steps", "did you mean train.budgets, in tokens?"),
        ("tracking.zzz", 1, "unknown key tracking.zzz", "known keys: enabled, uri, experiment"),
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
        ("study.name", "Has Spaces", "study.name: a name has only the letters"),
        ("arms.legal.segments", [{"from": 0, "mix": {"law": 1.0}}], "arms.legal.segments.0.from: Input should be greater than or equal to 1, saw 0"),
        ("arms.legal.max_epochs_of", {"law": 0}, "arms.legal.max_epochs_of.law: Input should be greater than 0, saw 0"),
        ("train.shuffle_window", 0, "train.shuffle_window: Input should be greater than or equal to 1, saw 0"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_is_allowed(tree, key, value, message):
    assert f"study.yaml: {message}" in refusal(spoil(tree, key, value))


def test_what_other_trainers_call_a_key_leads_to_one_that_is_here():
    known = schema_keys()
    assert {where.partition(",")[0].replace("models.0.", "models.") for where in _ELSEWHERE.values()} <= known


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
    with pytest.raises(ConfigError, match="is a folder, not a study file"):
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


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("models.SmolLM2-1.7B.revision=abc", lambda s: s.models[1].revision == "abc"),
        ("models.SmolLM2-1.revision=abc", lambda s: s.models[2].revision == "abc"),
        ("models.SmolLM2-1.7B.base=/a/b #1/c", lambda s: s.models[1].base == "/a/b #1/c"),
        ("arms.le.gal.max_epochs=2", lambda s: s.arms["le.gal"].max_epochs == 2),
        ("arms.le.gal.mix.law=0.9", lambda s: s.arms["le.gal"].mix == {"law": 0.9, "news": 0.1}),
        ("sources.law.path=*.jsonl", lambda s: s.sources[0].path == ("*.jsonl",)),
        ("sources.law.path='a'  # a comment", lambda s: s.sources[0].path == ("a",)),
        ("sources.law.limit_documents=5 # a comment", lambda s: s.sources[0].limit_documents == 5),
    ],
)
def test_names_with_dots_and_text_that_is_no_yaml_reach_their_place(tree, tmp_path, override, read):
    tree["models"] += [{"name": "SmolLM2-1.7B", "base": "x"}, {"name": "SmolLM2-1", "base": "x"}]
    tree["arms"]["le.gal"] = {"role": "domain", "mix": {"law": 0.5, "news": 0.1}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    if "mix" not in override:
        tree["arms"]["le.gal"]["mix"]["law"] = 0.9
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert read(load_study(path, (override,)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.budgets=!!int abc", "override train.budgets, line 1: the tag '!!int' is not allowed"),
        ("train.budgets=" + "[" * 1000, "override train.budgets, line 1: nested deeper than 64 levels"),
        ("study.name=a\x1bb", "holds the character U+001B, which is not text"),
        ("study.name=\udcff", "holds the character U+DCFF, which is not text"),
        ("a" + ".b" * 1000 + "=1", "does not have the form section.key=value"),
        ("sources.\u00b2.role=domain", "no entry '\u00b2' in a list of 2"),
        ("sources." + "9" * 5000 + ".role=domain", "in a list of 2"),
        ("tracking.uri=1\n--- 2", "a second document begins here"),
    ],
)
def test_an_override_cannot_bring_in_what_a_file_cannot(study_file, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_study(study_file, (override,))


def test_a_wrong_value_of_any_length_makes_a_short_message(study_file):
    with pytest.raises(ConfigError, match=r"train\.precision: ") as caught:
        load_study(study_file, ("train.precision=" + "x" * 100_000,))
    assert len(str(caught.value)) < 500
