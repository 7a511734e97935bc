"""What a worker computes does not depend on how many workers there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cpt_ray.data.shards import PackedRow, ShardReader
from cpt_ray.model.loss import IGNORED
from cpt_ray.records import ShardManifest
from cpt_ray.train.batches import BatchSource, accumulation_steps, join_rows
from cpt_ray.train.order import SampleOrder
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


@pytest.mark.parametrize(
    ("rows", "workers", "micro", "expected"), [(8, 1, 1, 8), (8, 2, 2, 2), (8, 3, 1, 3), (8, 8, 1, 1), (9, 2, 4, 2)]
)
def test_accumulation_is_equal_on_all_workers(rows, workers, micro, expected):
    assert accumulation_steps(rows, workers, micro) == expected


def source(folder: Path, rank: int, world: int, micro: int = 1) -> BatchSource:
    manifest = ShardManifest.load(folder / "manifest.json")
    mix = {"law": 0.75, "news": 0.25}
    order = SampleOrder(mix, {name: manifest.rows(name) for name in mix}, seed=0)
    return BatchSource(
        order,
        ShardReader(folder, manifest),
        sequence_length=T,
        rank=rank,
        world_size=world,
        global_batch_size=8,
        micro_batch_size=micro,
    )


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_all_workers_together_see_the_same_labelled_tokens(tmp_path, world):
    folder = make_shards(tmp_path)
    alone = source(folder, 0, 1).at(16)
    parts = [source(folder, rank, world, micro=2).at(16) for rank in range(world)]
    assert len({len(part.micro_batches) for part in parts}) == 1
    assert {part.sample_ids for part in parts} == {alone.sample_ids}
    assert {part.loss_tokens for part in parts} == {alone.loss_tokens}
    labelled = torch.cat([m.labels[m.labels != IGNORED] for part in parts for m in part.micro_batches])
    expected = torch.cat([m.labels[m.labels != IGNORED] for m in alone.micro_batches])
    assert labelled.tolist() == expected.tolist()
    assert len(labelled) == alone.loss_tokens > 0
