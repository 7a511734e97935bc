"""What a worker computes does not depend on how many workers there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpt_ray.data.rows.shards import PackedRow, ShardReader
from cpt_ray.model.loss import IGNORED
from cpt_ray.records import ShardManifest
from cpt_ray.train.order.batch_split import BatchSplit
from cpt_ray.train.order.batches import BatchSource, join_rows
from cpt_ray.train.order.samples import MixAt, SampleOrder
from tests.train.tiny_run import T, make_shards


def row(*lengths: int, size: int = 8) -> PackedRow:
    return PackedRow(
        tokens=np.arange(1, size + 1, dtype=np.int64),
        segment_lengths=lengths,
        loss_tokens=sum(length - 1 for length in lengths),
    )


def test_labels_stop_at_segment_ends_and_padding_has_none():
    batch = join_rows([row(3, 2)])
    assert batch.labels.tolist() == [2, 3, IGNORED, 5, IGNORED, IGNORED, IGNORED, IGNORED]
    assert batch.segment_lengths == (3, 2, 3)


def test_rows_are_laid_end_to_end_without_labels_across():
    batch = join_rows([row(8), row(4, 4)])
    assert batch.input_ids.shape == (16,)
    assert batch.segment_lengths == (8, 4, 4)
    assert (batch.labels != IGNORED).sum() == 7 + 6


@pytest.mark.parametrize(("world", "micro"), [(1, 1), (2, 2), (4, 1), (8, 1)])
def test_a_pass_knows_the_position_of_its_first_row_however_rows_are_split(shards, world, micro):
    passes = [batch for rank in range(world) for batch in source(shards, rank, world, micro).at(40).micro_batches]
    assert [batch.first_position for batch in passes] == list(range(40, 48, micro))
    alone = source(shards, 0, 1, micro).at(40).micro_batches
    for one, other in zip(passes, alone, strict=True):
        assert torch.equal(one.input_ids, other.input_ids)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return make_shards(tmp_path_factory.mktemp("batches"))


def source(folder: Path, rank: int, world: int, micro: int = 1, rows: int = 8) -> BatchSource:
    manifest = ShardManifest.load(folder / "manifest.json")
    mixes = [MixAt(0, {"law": 0.75, "news": 0.25}), MixAt(20, {"law": 0.25, "news": 0.75})]
    order = SampleOrder(mixes, {name: manifest.rows(name) for name in ("law", "news")}, seed=0, window_rows=16)
    return BatchSource(
        order,
        ShardReader(folder, manifest),
        BatchSplit(rows, world, micro),
        rank=rank,
        sequence_length=T,
    )


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_all_workers_together_see_the_same_labeled_tokens(shards, world):
    folder = shards
    alone = source(folder, 0, 1).at(16)
    parts = [source(folder, rank, world, micro=2).at(16) for rank in range(world)]
    assert len({len(part.micro_batches) for part in parts}) == 1
    assert {part.sample_ids for part in parts} == {alone.sample_ids}
    assert {part.loss_tokens for part in parts} == {alone.loss_tokens}
    labeled = torch.cat([m.labels[m.labels != IGNORED] for part in parts for m in part.micro_batches])
    expected = torch.cat([m.labels[m.labels != IGNORED] for m in alone.micro_batches])
    assert labeled.tolist() == expected.tolist()
    assert len(labeled) == alone.loss_tokens > 0


@given(
    world=st.sampled_from([1, 2, 3, 4, 8]),
    micro=st.integers(1, 4),
    start=st.integers(0, 300),
    steps=st.integers(1, 3),
    others=st.tuples(st.sampled_from([1, 2, 3, 4, 8]), st.integers(1, 4)),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_do_not_depend_on_workers_micro_batches_or_where_a_run_went_on(shards, world, micro, start, steps, others):
    alone = source(shards, 0, 1)
    ids, labeled = [], []
    for step in range(steps):
        # The group that continues after the first step is a different one.
        workers, rows = (world, micro) if step == 0 else others
        parts = [source(shards, rank, workers, rows).at(start + 8 * step) for rank in range(workers)]
        assert len({part.sample_ids for part in parts}) == 1
        ids += parts[0].sample_ids
        labeled += [m.labels[m.labels != IGNORED] for part in parts for m in part.micro_batches]
    assert ids == alone._order.batch(start, 8 * steps)
    whole = [m.labels[m.labels != IGNORED] for step in range(steps) for m in alone.at(start + 8 * step).micro_batches]
    assert torch.cat(labeled).tolist() == torch.cat(whole).tolist()


def test_joined_rows_are_those_of_the_token_by_token_rule(shards):
    batch = source(shards, 0, 1, micro=4).at(0)
    for micro in batch.micro_batches:
        expected, place = [], 0
        for length in micro.segment_lengths:
            tokens = micro.input_ids[place : place + length].tolist()
            padding = not any(tokens)
            expected += [*([IGNORED] * length if padding else [*tokens[1:], IGNORED])]
            place += length
        assert micro.labels.tolist() == expected
