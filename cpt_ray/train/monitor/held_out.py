"""Held-out loss while a run trains: the current weights, on a few validation documents of every source.

Called by `Watch` at an interval. In: the study's held-out folder, the engine. Out: `HeldOutPoint`s. The rule is the
evaluation's, cut to the first window: the separator precedes a document, so its first token is scored too. These points are
not annealed and never a budget; the reported halves (`test`) are not read. Guarantee: no gradient, no random number, eval mode
only while scoring, and the same number of forward passes on every rank: training is bitwise the same with it on or off. Held in
memory: the tokens of these documents.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from cpt_ray.model.base import load_tokenizer
from cpt_ray.model.loss import IGNORED
from cpt_ray.model.scoring import EncodedDocument, encode_document
from cpt_ray.records import DocumentKey, HeldOutPoint, HeldOutRecord, HeldOutSet, RunProgress
from cpt_ray.train.order.batches import MicroBatch

MOST_COST_SHARE = 0.02
"""Share of a run's compute that held-out losses may take if the study sets no interval."""
POINTS = 10
"""Held-out losses per run, if they cost less than that."""


@dataclass(frozen=True)
class WatchedSet:
    """A held-out set, cut to its watched documents."""

    of: HeldOutSet
    documents: tuple[EncodedDocument, ...]


def read_watched_sets(
    folder: str | None, tokenizer: Path, *, documents: int, window: int, trust_remote_code: bool = False
) -> list[WatchedSet]:
    """Read and tokenize the first `documents` of each validation half; any prefix of a set is a fair sample of it.

    Args:
        folder: The study's held-out artifact; None for none.
        tokenizer: Folder of the tokenizer.
        documents: Documents per source.
        window: Maximum tokens scored per document.
        trust_remote_code: Whether Python files of the tokenizer may run.
    """
    if folder is None:
        return []
    encoder = load_tokenizer(tokenizer, trust_remote_code=trust_remote_code)
    found = []
    for entry in HeldOutRecord.of(folder).of_part("validation"):
        with (Path(folder) / entry.path).open(encoding="utf-8") as lines:
            fields = [json.loads(line) for line in itertools.islice(lines, documents)]
        encoded = [
            encode_document(encoder, DocumentKey(item["identity"], item["id"]), item["text"], document_tokens=window)
            for item in fields
        ]
        found.append(WatchedSet(entry, tuple(encoded)))
    return found


def interval(sets: Sequence[WatchedSet], *, asked: int | None, run_tokens: int) -> int | None:
    """Tokens between two held-out losses; None for never, or if a second one would cost more than its share of the run.

    Args:
        sets: The sets scored each time.
        asked: `train.watch.held_out_every`; None derives it from the cost, 0 is never.
        run_tokens: Tokens that the run trains on.
    """
    tokens = sum(len(document.tokens) for entry in sets for document in entry.documents)
    if asked == 0 or tokens == 0:
        return None
    # A forward pass is a third of a training step's work.
    every = max(run_tokens // POINTS, math.ceil(tokens / (3 * MOST_COST_SHARE)), 1)
    return asked or (every if every <= run_tokens else None)


def watch_held_out(
    folder: str | None, tokenizer: Path, *, documents: int, prefix: int, window: int, rows: int, trust_remote_code: bool
) -> HeldOutLoss:
    """Read the watched documents and split them over the workers, in forward passes of the same shape as training's.

    Args:
        folder: The study's held-out artifact; None for none, and then no tokenizer is loaded.
        tokenizer: Folder of the tokenizer.
        documents: Documents per source.
        prefix: Token placed before each document.
        window: Tokens per row.
        rows: Rows per forward pass.
        trust_remote_code: Whether Python files of the tokenizer may run.
    """
    sets = read_watched_sets(folder, tokenizer, documents=documents, window=window, trust_remote_code=trust_remote_code)
    return HeldOutLoss(sets, prefix=prefix, row_tokens=rows * window, rank=dist.get_rank(), world_size=dist.get_world_size())


class HeldOutLoss:
    """Scores the watched sets with the engine's weights. Collective: every rank makes the same calls.

    Args:
        sets: The watched sets; the same on all ranks.
        prefix: Token placed before each document.
        row_tokens: Tokens per forward pass: the same as in training, so it needs no new shape and no extra memory.
        rank: This worker.
        world_size: Number of workers.
    """

    def __init__(self, sets: Sequence[WatchedSet], *, prefix: int, row_tokens: int, rank: int, world_size: int) -> None:
        self.sets = sets
        windows = [(number, document) for number, entry in enumerate(sets) for document in entry.documents]
        passes = _fill(windows, row_tokens)
        rounds = -(-len(passes) // world_size)
        # A rank with too few passes repeats the first one to match the others; it is not counted.
        mine = [passes[i] if i < len(passes) else None for i in range(rank, rounds * world_size, world_size)]
        self._passes = [(_row(group or passes[0], prefix=prefix, row_tokens=row_tokens), group or []) for group in mine]

    def measure(
        self, nats_of: Callable[[MicroBatch], Tensor], progress: RunProgress, *, attempt: int, on_pass: Callable[[], None]
    ) -> list[HeldOutPoint]:
        """Score everything.

        Args:
            nats_of: Nats of each label of a row [N], without gradients.
            progress: The run's progress.
            attempt: Number of this start of the run.
            on_pass: Called before each forward pass: a heartbeat.
        """
        started = time.perf_counter()
        sums = torch.zeros(len(self.sets), dtype=torch.float64)
        for row, group in self._passes:
            on_pass()
            nats = nats_of(row).double().cpu()
            start = 0
            for number, document in group:
                sums[number] += nats[start : start + len(document.tokens)].sum()
                start += len(document.tokens)
        device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
        sums = sums.to(device)
        dist.all_reduce(sums)
        seconds = time.perf_counter() - started
        return [
            _point(entry, float(nats), attempt=attempt, progress=progress, seconds=seconds)
            for entry, nats in zip(self.sets, sums.tolist(), strict=True)
        ]


def _point(entry: WatchedSet, nats: float, *, attempt: int, progress: RunProgress, seconds: float) -> HeldOutPoint:
    tokens = sum(len(document.tokens) for document in entry.documents)
    num_bytes = sum(document.bytes for document in entry.documents)
    return HeldOutPoint(
        attempt=attempt,
        step=progress.step,
        tokens_seen=progress.tokens_seen,
        source=entry.of.source,
        role=entry.of.role,
        part=entry.of.part,
        documents=len(entry.documents),
        scored_tokens=tokens,
        scored_bytes=num_bytes,
        nats_per_token=nats / tokens,
        bits_per_byte=nats / math.log(2) / num_bytes,
        seconds=seconds,
    )


_Window = tuple[int, EncodedDocument]


def _fill(windows: Sequence[_Window], row_tokens: int) -> list[list[_Window]]:
    """First fit, longest first."""
    rows: list[list[_Window]] = []
    room: list[int] = []
    for window in sorted(windows, key=lambda item: -len(item[1].tokens)):
        length = len(window[1].tokens)
        place = next((i for i, left in enumerate(room) if left >= length), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(row_tokens)
        rows[place].append(window)
        room[place] -= length
    return rows


def _row(group: Sequence[_Window], *, prefix: int, row_tokens: int) -> MicroBatch:
    """Concatenated documents, each a separate segment after the prefix; the rest is a segment without labels."""
    ids = torch.full((row_tokens,), prefix, dtype=torch.int64)
    labels = torch.full((row_tokens,), IGNORED, dtype=torch.int64)
    start, lengths = 0, []
    for _, document in group:
        length = len(document.tokens)
        ids[start + 1 : start + length] = torch.tensor(document.tokens[:-1], dtype=torch.int64)
        labels[start : start + length] = torch.tensor(document.tokens, dtype=torch.int64)
        lengths.append(length)
        start += length
    return MicroBatch(ids, labels, tuple(lengths + ([row_tokens - start] if start < row_tokens else [])))
