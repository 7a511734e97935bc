"""The `sources`, `prepare` and `arms` sections: where text comes from, and the mixtures of an arm."""

import pytest
import yaml

from cpt_ray.config.load import dump_study, parse_study
from cpt_ray.config.sections.prepare import SourceConfig
from tests.config.spoiled import refusal, spoil


def test_a_weight_schedule_reads_back_as_it_was_written(tree):
    tree["arms"]["legal"] |= {"segments": [{"from": "5k", "mix": {"news": 1.0}}], "cooldown_mix": {"law": 1.0}}
    study = parse_study(tree, place="study.yaml")
    assert study.arms["legal"].segments[0].from_tokens == 5000
    written = yaml.safe_load(dump_study(study))
    assert written["arms"]["legal"]["segments"] == [{"from": 5000, "mix": {"news": 1.0}}]
    assert parse_study(written, place="again") == study


def source(**changes):
    return {"name": "law", "role": "domain", "path": "law/*.jsonl", "format": "jsonl"} | changes


def test_one_path_is_a_list_of_one():
    assert SourceConfig(**source()).path == ("law/*.jsonl",)
    assert SourceConfig(**source(path=["a", "b"])).path == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": []}, "source law has neither of path and dataset; give one of them"),
        ({"dataset": {"name": "folder"}}, "source law has both of path and dataset; give one of them"),
        ({"path": ["a.txt", ""]}, "source law has an empty path; give a file, a folder, a glob or a URL"),
        ({"encoding": "latin-99"}, "encoding 'latin-99' is not known; give auto, utf-8, latin-1"),
        ({"encoding": "rot13"}, "encoding 'rot13' is not an encoding of text"),
        ({"max_bad_share": 1.1}, "Input should be less than or equal to 1"),
        ({"limit_documents": 0}, "Input should be greater than or equal to 1"),
    ],
)
def test_a_source_is_a_path_or_a_dataset(tree, changes, message):
    assert message in refusal(spoil(tree, "sources", [source(**changes), tree["sources"][1]]))


def test_a_dataset_takes_the_place_of_path_and_format(tree):
    hub = {"name": "Team/Texts", "revision": "a" * 40}
    parse_study(spoil(tree, "sources.0", {"name": "law", "role": "domain", "dataset": hub}), place="study.yaml")
    branch = {"name": "law", "role": "domain", "dataset": hub | {"revision": "main"}}
    assert "sources.0.dataset.revision: String should match pattern" in refusal(spoil(tree, "sources.0", branch))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prepare.held_out.share", 0),
        ("prepare.held_out.share", 0.5),
        ("prepare.held_out.containment_share", 0),
        ("prepare.decontaminate.ngram_words", 2),
        ("prepare.pack.sequence_length", 7),
        ("prepare.unit_bytes", 999),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(tree, key, value):
    assert f"study.yaml: {key}: Input should be" in refusal(spoil(tree, key, value))


def test_every_mixture_of_an_arm_is_named_by_its_key(tree):
    tree["arms"]["legal"] |= {"segments": [{"from": 10, "mix": {"news": 1.0}}], "cooldown_mix": {"law": 1.0}}
    mixes = parse_study(tree, place="study.yaml").arms["legal"].mixes()
    assert mixes == {"mix": {"law": 0.9, "news": 0.1}, "segments.0.mix": {"news": 1.0}, "cooldown_mix": {"law": 1.0}}
