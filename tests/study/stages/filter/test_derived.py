"""Stages of domain filters: what a change of a threshold, a classifier or an arm re-addresses, and what it leaves alone."""

from __future__ import annotations

import json

import pytest
import yaml

from cpt_ray.errors import ConfigError
from cpt_ray.study.stages.filter.derived import ARMS, DERIVED
from cpt_ray.study.stages.filter.scores import SCORES, scored_sources
from cpt_ray.study.stages.train import TRAIN
from tests.study.planned import graph_of
from tests.study.test_graph import addresses, moved

DERIVED_SOURCES = [
    {"name": "news_legal", "from": "news", "where": "legal >= 0.8"},
    {"name": "news_sample", "from": "news", "sample": {"like": "news_legal"}},
    {"name": "news_other", "from": "news", "where": "legal < 0.1"},
]
OF_SPECIAL = {f"train/tiny-special-{rest}" for rest in ("trunk-seed0", "2000-seed0", "4000-seed0")}


@pytest.fixture
def filtered(tiny):
    tree = yaml.safe_load(tiny.config.read_text())
    tiny.change(
        sources=[*tree["sources"], *DERIVED_SOURCES],
        classifiers=[{"name": "legal", "positive": {"sources": "law"}, "negative": {"sources": "news"}}],
        arms={
            **tree["arms"],
            "special": {"role": "domain", "mix": {"news_legal": 1.0}},
            "sample": {"role": "domain", "mix": {"news_sample": 1.0}},
        },
    )
    return tiny


def test_the_artifacts_of_filters_are_there(filtered):
    found = {
        name
        for name in addresses(filtered.config)
        if name.split("/")[0] in ("classifier", "scores", "yield", "derived", "arms")
    }
    assert found == {
        "classifier/legal",
        "scores/legal-news",
        "yield/legal-news",
        "derived/tiny-news_legal",
        "derived/tiny-news_sample",
        "derived/tiny-news_other",
        "arms/tiny",
    }


def test_another_threshold_moves_what_is_chosen_by_it_and_no_score_and_no_other_arm(filtered):
    before = addresses(filtered.config)
    changed = moved(before, addresses(filtered.config, "sources.news_legal.where=legal >= 0.7"))
    trained = {name for name in changed if name.startswith("train/")}
    assert changed - trained - {name for name in changed if name.startswith("evaluate/")} == {
        "yield/legal-news",
        "derived/tiny-news_legal",
        "derived/tiny-news_sample",  # drawn like it
        "arms/tiny",
    }
    assert trained >= OF_SPECIAL
    assert not [name for name in trained if "-legal-" in name or "-control-" in name]
    assert "scores/legal-news" in before


def test_another_classifier_moves_its_scores_and_what_is_chosen_by_them_but_not_the_shards_of_its_parent(filtered):
    before = addresses(filtered.config)
    changed = moved(before, addresses(filtered.config, "classifiers.legal.epochs=9"))
    assert {"classifier/legal", "scores/legal-news", "derived/tiny-news_legal"} <= changed
    assert not {"shards/tiny", "documents/tiny", "held_out/tiny"} & changed
    assert not [name for name in changed if name.startswith("train/tiny-legal-")]


def test_a_seed_or_a_probe_moves_the_documents_because_it_is_one_of_their_sources(filtered):
    tree = yaml.safe_load(filtered.config.read_text())
    before = addresses(filtered.config)
    filtered.change(sources=[{**tree["sources"][0], "name": "apart", "role": "probe"}, *tree["sources"]])
    assert "documents/tiny" in moved(before, addresses(filtered.config))


def test_a_classifier_that_no_source_is_derived_by_scores_the_general_sources(filtered):
    assert scored_sources(graph_of(filtered).config) == [("legal", "news")]
    tree = yaml.safe_load(filtered.config.read_text())
    filtered.change(sources=tree["sources"][:2], arms={name: tree["arms"][name] for name in ("legal", "control")})
    graph = graph_of(filtered)
    assert [node.name for node in graph.of(SCORES)] == ["legal-news"]
    assert graph.of(DERIVED) == []


def test_a_run_gets_the_shards_of_the_derived_sources_that_it_draws(filtered):
    graph = graph_of(filtered)
    for node in graph.of(TRAIN):
        names = {name for name in node.inputs if name.startswith("derived-")}
        wanted = {"special": {"derived-news_legal"}, "sample": {"derived-news_sample"}}
        assert names == wanted.get(node.work.spec.arm, set())


def test_a_study_of_one_arm_has_nothing_to_overlap(filtered):
    filtered.change(arms={"legal": {"role": "domain", "mix": {"law": 1.0}}})
    assert graph_of(filtered).of(ARMS) == []


def test_a_source_of_weight_0_is_none_that_an_arm_draws(filtered):
    filtered.change(
        arms={
            "special": {"role": "domain", "mix": {"news_legal": 1.0, "news": 0.0}},
            "control": {"role": "control", "mix": {"news": 1.0, "news_other": 0.0}},
        }
    )
    (node,) = graph_of(filtered).of(ARMS)
    assert node.work.arms == {"special": {"news_legal"}, "control": {"news"}}
    assert set(node.work.roots) == {"news_legal", "news"}
    assert set(node.inputs) == {"shards", "derived-news_legal"}


def test_the_files_of_a_loaded_model_are_its_address_and_a_missing_one_is_named(filtered, tmp_path):
    path = tmp_path / "model.skops"
    path.write_bytes(b"one")
    tree = yaml.safe_load(filtered.config.read_text())
    filtered.change(classifiers=[{**tree["classifiers"][0], "model": "sklearn", "path": str(path)}])
    before = addresses(filtered.config)
    moved_path = tmp_path / "other" / "model.skops"
    moved_path.parent.mkdir()
    moved_path.write_bytes(b"one")
    assert moved(before, addresses(filtered.config, f"classifiers.legal.path={json.dumps(str(moved_path))}")) == set()
    moved_path.write_bytes(b"two")
    assert "scores/legal-news" in moved(before, addresses(filtered.config, f"classifiers.legal.path={moved_path}"))
    with pytest.raises(ConfigError, match=r"classifier legal: .* does not exist, or is an empty folder") as error:
        graph_of(filtered, f"classifiers.legal.path={tmp_path / 'nothing.skops'}")
    assert error.value.fix == "set classifiers.legal.path to the file or folder of the model"
