"""Models with the same tokenizer pack the same text once, and only those."""

from __future__ import annotations

import shutil

import pytest
import yaml

from cpt_ray.study.stages.filter.derived import DERIVED
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.study.study import StudyDriver
from tests.evaluate.tiny import build_model, build_tokenizer
from tests.model.bases.damage import change_json
from tests.study.planned import Lines, graph_of
from tests.study.stages.test_tokenizer import new_models, prepared


@pytest.fixture
def two(tiny):
    """A study of two bases of one family: other weights, the same tokenizer."""
    other = tiny.model.with_name("other")
    shutil.copytree(tiny.model, other)
    build_model(len(build_tokenizer()), seed=1).save_pretrained(other)
    tiny.change(models=[{"name": "one", "base": str(tiny.model)}, {"name": "two", "base": str(other)}])
    return tiny


def folders(study, *overrides):
    return [node.folder for node in graph_of(study, *overrides).of(SHARDS)]


def test_bases_of_one_family_share_shards_that_are_made_once_and_listed_once(two):
    said = prepared(two)
    graph = graph_of(two)
    one, other = graph.of(SHARDS)
    assert one.folder == other.folder
    assert one.stem == "one"
    assert sum(line.startswith("  made    shards/") for line in said) == 1
    assert [node.label for node in graph.all("prepare") if node.stage is SHARDS] == [one.label]
    again = Lines()
    with StudyDriver(graph.config, two.config, again) as study:
        study.make("prepare")
    assert sum(line.startswith("  reused  shards/") for line in again.said) == 1
    for run in graph.of(TRAIN):
        assert run.input("shards").folder == one.folder
    assert len({node.fingerprint for node in graph.of(TRAIN)}) == len(graph.of(TRAIN)) > 2


@pytest.mark.parametrize("override", ["models.1.bos=<|endoftext|>", "models.1.separator=a", "models.1.new_tokens=[usufruct]"])
def test_other_tokens_around_or_in_the_text_are_shards_of_their_own(two, override):
    one, other = folders(two, override)
    assert one != other
    assert other.name.startswith("two-")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_differs_in_a_byte_is_another(two, name):
    path = two.model.with_name("other") / name
    path.write_bytes(path.read_bytes() + b"\n")
    one, other = folders(two)
    assert one != other


def test_another_vocabulary_size_is_another(two):
    change_json(two.model.with_name("other"), "config.json", vocab_size=512)
    one, other = folders(two)
    assert one != other


def test_a_base_that_is_trained_again_keeps_its_shards_and_trains_anew(two):
    before = graph_of(two)
    build_model(len(build_tokenizer()), seed=2).save_pretrained(two.model)
    after = graph_of(two)
    assert before.of(MODELS)[0].fingerprint != after.of(MODELS)[0].fingerprint
    assert before.of(SHARDS)[0].fingerprint == after.of(SHARDS)[0].fingerprint
    assert before.of(TRAIN)[0].fingerprint != after.of(TRAIN)[0].fingerprint


def test_sizes_from_random_weights_share_what_their_tokenizer_packs(tiny):
    tiny.change(models=[*new_models(32, 64), *({**one, "name": "larger"} for one in new_models(32, vocabulary=400))])
    one, other, larger = folders(tiny)
    assert one == other != larger


def test_derived_sources_of_one_family_are_shared_too(two):
    tree = yaml.safe_load(two.config.read_text())
    two.change(
        sources=[*tree["sources"], {"name": "some", "from": "news", "where": "good >= 0.5"}],
        classifiers=[{"name": "good", "positive": {"sources": ["law"]}, "negative": {"sources": ["news"]}}],
        arms={"some": {"role": "domain", "mix": {"some": 1.0}}},
    )
    one, other = graph_of(two).of(DERIVED)
    assert (one.name, other.name) == ("one-some", "two-some")
    assert one.folder == other.folder
    assert one.folder.name.startswith("one-some-")
    own = graph_of(two, "models.1.bos=<|endoftext|>").of(DERIVED)
    assert own[0].folder != own[1].folder
