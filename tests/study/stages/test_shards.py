"""Shards: an unsuitable tokenizer is refused early, and a manifest that contradicts its shards is detected."""

from __future__ import annotations

import pytest

from cpt_ray.data.rows.shards import save_manifest
from cpt_ray.errors import ConfigError
from cpt_ray.records import ShardManifest
from cpt_ray.records.shards import ShardTable
from cpt_ray.study import store
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.scans.scan import SCAN
from cpt_ray.study.stages.shards import SHARDS
from tests.study.planned import BareSession, graph_of


def test_there_is_an_artifact_for_each_model_of_the_same_text(tiny):
    models = [{"name": name, "base": str(tiny.model)} for name in ("one", "two")]
    tiny.change(models=models)
    graph = graph_of(tiny)
    one, two = graph.of(SHARDS)
    assert (one.name, two.name) == ("one", "two")
    assert one.work.base is graph.one(MODELS, "one")
    for name, stage in (("held_out", HELD_OUT), ("exams", SCAN)):
        assert one.input(name) is two.input(name)
        assert one.input(name).stage is stage
    assert "exams" not in graph_of(tiny, "prepare.decontaminate.enabled=false").of(SHARDS)[0].inputs


def test_a_tokenizer_is_checked_as_soon_as_its_model_is_imported(tiny):
    graph = graph_of(tiny)
    node = graph.one(SHARDS)
    assert SHARDS.early_check(node) is False  # cannot be checked yet
    MODELS.build(graph.of(MODELS), BareSession(graph.root))
    assert SHARDS.early_check(node) is True
    with pytest.raises(ConfigError, match=r"models\.tiny\.separator is '<nothing>'"):
        SHARDS.early_check(graph_of(tiny, "models.0.separator=<nothing>").one(SHARDS))


@pytest.mark.ray
@pytest.mark.parametrize("key", ["rows", "loss_tokens"])
def test_rows_and_tokens_of_every_shard_are_counted_again(prepared_study, tmp_path, key):
    node = graph_of(prepared_study.copy(tmp_path / "study")).one(SHARDS)
    assert store.find(node)
    assert list(SHARDS.verify(node)) == []
    manifest = ShardManifest.of(node.folder)
    *others, last = manifest.shards
    wrong = last.model_copy(update={key: getattr(last, key) + 1})
    save_manifest(node.folder / ShardManifest.FILE, manifest.model_copy(update={"shards": ShardTable.of([*others, wrong])}))
    (found,) = SHARDS.verify(node)
    assert found.name == f"manifest of {node.label}"
    assert f"{last.path}: {last.rows} rows and {last.loss_tokens} loss-bearing tokens, but the manifest says" in (
        found.problems[0].problem
    )
