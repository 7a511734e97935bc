"""Derived sources in one process: a threshold that chooses nothing or everything, redacted text, tokens copied exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.rows.shard_index import read_documents_of_shard
from cpt_ray.data.rows.shards import ShardReader, join_manifests, save_manifest
from cpt_ray.errors import DataError
from cpt_ray.records import ExamItem, Made, ScoresRecord, ShardManifest, write_items
from tests.data.filter.in_process import World, classifier, rows, source
from tests.integration.tiny_study import document

CONFIG = classifier({"sources": "seeds"}, {"sources": "news"})
LEAKED = 3


def derived(name: str, **rule: object) -> SourceConfig:
    return SourceConfig.model_validate({"name": name, "from": "web", **rule})


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    web = rows("news", 200, name="web") + rows("law", 40, name="law")
    sources = [
        source(folder, "web", "general", web),
        source(folder, "news", "general", rows("news", 100, name="news", start=1000)),
        source(folder, "seeds", "seed", rows("law", 80, name="seed", start=2000)),
    ]
    return World.of(folder, sources, decontaminate={"action": "redact"}, held_out={"share": 0.1})


@pytest.fixture(scope="module")
def shards(world, tokenizer_folder) -> Made[ShardManifest]:
    leaked = [" ".join(document("law", 50_000 + number).split()[:20]) for number in range(LEAKED)]
    items = world.root / "items.jsonl"
    items.write_text(write_items([ExamItem(task="bar", id=str(number), question=text) for number, text in enumerate(leaked)]))
    return world.pack(tokenizer_folder, items)


@pytest.fixture(scope="module")
def scores(world) -> Made[ScoresRecord]:
    return world.score(CONFIG, world.train(CONFIG), "web")


def tokens_of(shards: Made[ShardManifest], name: str) -> dict[str, list[int]]:
    """Every document of a source as its tokens, from its rows."""
    reader = ShardReader(*shards)
    found: dict[str, list[int]] = {}
    start = 0
    for entry in shards.record.of_source(name):
        flat = np.concatenate([row.tokens for row in reader.rows(name, range(start, start + entry.rows))])
        start += entry.rows
        packed = read_documents_of_shard(shards.folder / entry.index_path)
        for place, identity in enumerate(packed.identities.to_pylist()):
            chosen = np.arange(len(packed)) == place
            found[identity] = packed.gather(flat, shards.record.sequence_length, chosen)[0].tolist()
    return found


def test_a_derived_document_is_its_parents_token_for_token_redacted_or_not(world, shards, scores):
    made, selection = world.derive(derived("legal", where="legal >= 0.5"), shards, {"legal": scores})
    parent, own = tokens_of(shards, "web"), tokens_of(made, "legal")
    assert own == {name: parent[name] for name in own}
    assert 25 < len(own) == selection.documents < 45
    assert selection.tokens == sum(map(len, own.values()))
    assert (selection.parent_documents, selection.parent_tokens) == (len(parent), sum(map(len, parent.values())))
    report = next(r for r in shards.record.reports if (r.source, r.stage) == ("web", "decontaminate"))
    assert report.edited_bytes > 0  # an item was cut out, and is in neither
    for entry in made.record.shards:
        assert entry.tokens == entry.tokenizer_tokens + entry.separator_tokens
        assert entry.rows * made.record.sequence_length == entry.tokens + entry.padding


def test_several_conditions_hold_together_and_each_direction_is_kept(world, shards, scores):
    between, _ = world.derive(derived("between", where="legal > 0.06 and legal < 0.93"), shards, {"legal": scores})
    below, _ = world.derive(derived("below", where="legal <= 0.06"), shards, {"legal": scores})
    above, _ = world.derive(derived("above", where="legal >= 0.93"), shards, {"legal": scores})
    parts = [set(tokens_of(made, name)) for made, name in ((between, "between"), (below, "below"), (above, "above"))]
    assert set.union(*parts) == set(tokens_of(shards, "web"))
    assert sum(map(len, parts)) == len(tokens_of(shards, "web"))


@pytest.mark.parametrize(("where", "kept"), [("legal >= 0.9999", "nothing"), ("legal >= 0.00001", "everything")])
def test_a_threshold_that_keeps_nothing_or_everything_is_refused(world, shards, scores, where, kept):
    with pytest.raises(DataError, match=rf"source vain: {where} keeps {kept} of web \(\d+ documents\)") as error:
        world.derive(derived("vain", where=where), shards, {"legal": scores})
    tables = [pq.read_table(scores.folder / path)["probability"].to_numpy() for path in scores.record.units.values()]
    at_half = int(np.sum(np.concatenate(tables) >= 0.5))
    assert 25 < at_half < 50
    assert error.value.fix.startswith("choose another threshold: in web legal finds ")
    assert f", {at_half} documents at 0.5, " in error.value.fix
    assert "; scores nearest to it reach from" in error.value.fix


def test_a_sample_has_the_tokens_of_the_other_source_to_within_a_document(world, shards, scores):
    legal, _ = world.derive(derived("legal", where="legal >= 0.5"), shards, {"legal": scores})
    save_manifest(legal.folder / ShardManifest.FILE, legal.record)
    drawn, selection = world.derive(derived("drawn", sample={"like": "legal"}), shards, {}, like=legal)
    own = tokens_of(drawn, "drawn")
    longest = max(map(len, tokens_of(shards, "web").values()))
    assert abs(selection.tokens - legal.record.shards.total("tokens")) < longest
    assert own.items() <= tokens_of(shards, "web").items()
    assert selection.shown == ()
    # Another name is another draw; the same name is the same one.
    other, _ = world.derive(derived("redrawn", sample={"like": "legal"}), shards, {}, like=legal)
    assert set(tokens_of(other, "redrawn")) != set(own)


def test_joined_manifests_read_the_rows_of_every_artifact(world, shards, scores, tmp_path):
    legal, _ = world.derive(derived("legal", where="legal >= 0.5"), shards, {"legal": scores})
    joined = join_manifests(shards, [legal])
    assert joined.record.shards.sources == ("web", "news", "legal")
    reader = ShardReader(*joined)
    alone = ShardReader(*legal)
    for row in range(alone.num_rows("legal")):
        assert np.array_equal(reader.rows("legal", [row])[0].tokens, alone.rows("legal", [row])[0].tokens)
    assert join_manifests(shards, []) is shards
    assert json.loads(joined.record.shards[0].to_json())["path"] == shards.record.shards[0].path


def test_the_documents_of_a_shard_come_in_the_order_in_which_they_were_read(world, shards):
    entry = shards.record.of_source("web")[0]
    packed = read_documents_of_shard(shards.folder / entry.index_path)
    records = [int(name.split("/")[-1]) for name in packed.identities.to_pylist()]
    assert records == sorted(records)
    assert packed.tokens.sum() == entry.tokens
    table = pq.read_table(shards.folder / entry.index_path)
    assert len(packed) == len(set(table["identity"].to_pylist())) == entry.documents
    assert [key.identity for key in packed.keys(np.ones(len(packed), dtype=bool))] == packed.identities.to_pylist()
    assert isinstance(shards.folder, Path)
