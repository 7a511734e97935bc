"""Traces a row of a run to its documents, and a document to the rows and steps in which runs saw it.

Reads the manifest, the indices of the shards, the runs' records and, for the file of a document, the raw input. The order of
samples is a function of the position, so nothing is logged for this; `tests/study/inspect/test_trace.py` checks it against the
sample ids in the metrics. Memory: one shard's index, and one block of positions.

Guarantee: a trace shows exactly what the workers read: it uses the same `sample_order` over the same manifest.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpt_ray.data.identity import place_of
from cpt_ray.data.rows.shard_index import Placed, pieces_of_document, pieces_of_row
from cpt_ray.edges.store import exists, fetched
from cpt_ray.errors import ConfigError
from cpt_ray.records import DocumentKey, Made, RunRecord, ShardManifest
from cpt_ray.study.graph import CellGraph
from cpt_ray.study.inspect.provenance import find_files
from cpt_ray.study.stages.documents import DOCUMENTS
from cpt_ray.study.stages.filter.derived import DERIVED, derived_name, joined_shards
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.train.checkpoint import committed
from cpt_ray.train.order.mixes import sample_order
from cpt_ray.train.order.samples import SampleOrder

_BLOCK = 1 << 16


class Seen(NamedTuple):
    """A row as one run saw it."""

    run: str
    """The run that trained on it: for what a branch inherited, its trunk."""
    position: int
    """In sample order, from 0 at the base."""
    step: int
    """From 1 at the base, as in the run's metrics."""
    source: str
    row: int


class RunOrder:
    """The rows of one run, and of the runs it continues.

    Args:
        graph: The artifacts of its cell.
        name: The run, as its cell names it.

    Raises:
        ConfigError: If it is not trained yet.
    """

    def __init__(self, graph: CellGraph, name: str) -> None:
        runs = {node.name: node for node in graph.of(TRAIN)}
        self.spec, folder = runs[name].work.spec, runs[name].folder
        self._graph = graph
        training = RunRecord.load(fetched(folder / RunRecord.FILE)).training if _is_trained(folder) else None
        if training is None:
            raise ConfigError(
                f"run {name} is not trained yet", fix=f"run `{shlex.join(['cpt-ray', 'train', str(graph.config_path)])}` first"
            )
        self.end = training.progress.position
        self.start = 0
        if self.spec.parent is not None:
            parent = runs[self.spec.parent].folder
            self.start = committed.first_at_or_past(parent, self.spec.start_tokens)[0][1].progress.position
        self.order: SampleOrder = sample_order(
            graph.config.arms[self.spec.arm],
            self.spec,
            shards_of(graph, self.spec.model).record,
            window_rows=graph.config.train.shuffle_window,
            branch_position=self.start if self.spec.parent else None,
        )

    def at(self, position: int) -> Seen:
        """The row at a position.

        Raises:
            ConfigError: If the run ended before.
        """
        name = self.spec.name
        if not 0 <= position < self.end:
            raise ConfigError(
                f"run {name} has rows 0 to {self.end - 1}, not {position}", fix="rows are counted from the base, from 0"
            )
        # A branch has its trunk's rows up to the branch point; the trunk may itself be a branch of another run.
        if position < self.start:
            return RunOrder(self._graph, str(self.spec.parent)).at(position)
        return self._seen(position, *self.order.at(position))

    def find(self, source: str, rows: set[int]) -> Iterator[Seen]:
        """Where this run itself, without the runs it continues, saw rows of a source."""
        if source not in self.order.sources:
            return
        number, wanted = self.order.sources.index(source), np.array(sorted(rows), dtype=np.int64)
        for begin in range(self.start, self.end, _BLOCK):
            numbers, drawn = self.order.draw(begin, min(_BLOCK, self.end - begin))
            for place in np.flatnonzero((numbers == number) & np.isin(drawn, wanted)).tolist():
                yield self._seen(begin + place, source, int(drawn[place]))

    def _seen(self, position: int, source: str, row: int) -> Seen:
        step = position // self._graph.config.train.global_batch_size + 1
        return Seen(self.spec.name, position, step, source, row)


def trace_row(graph: CellGraph, run: str, position: int) -> tuple[Seen, list[Placed]]:
    """The row that a run saw at a position, and its documents.

    Raises:
        ConfigError: If there is no such run or position, or it is not trained yet.
    """
    order = RunOrder(graph, run)
    seen = order.at(position)
    return seen, pieces_of_row(*shards_of(graph, order.spec.model), seen.source, seen.row)


def trace_document(graph: CellGraph, model: str, name: str) -> tuple[list[Placed], list[Seen], list[str]]:
    """Where the documents of a name are in a model's shards, when each run saw them, and the runs that are not trained yet.

    Args:
        graph: The artifacts of a cell.
        model: The model.
        name: An id, which several documents may have, or the identity of one document.

    Raises:
        ConfigError: If no shard holds such a document.
    """
    pieces = list(pieces_of_document(*shards_of(graph, model), name))
    if not pieces:
        raise ConfigError(
            f"no shard of model {model} holds a document {name!r}",
            fix="it may have been dropped or held out: cpt-ray prepare prints how many were, and the report has samples",
        )
    seen: list[Seen] = []
    waiting: list[str] = []
    for node in graph.of(TRAIN):
        if node.work.spec.model != model:
            continue
        if not _is_trained(node.folder):
            waiting.append(node.name)
            continue
        order = RunOrder(graph, node.name)
        for source in {piece.source for piece in pieces}:
            seen += order.find(source, {piece.row for piece in pieces if piece.source == source})
    return pieces, seen, waiting


def files_of(graph: CellGraph, pieces: list[Placed]) -> dict[str, str]:
    """The raw files of documents by identity, as long as they hold the documents."""
    work = graph.one(DOCUMENTS).work
    found: dict[str, str] = {}
    for source in work.sources:
        # A derived source's documents are in the files of the one that was read.
        places = [(piece, place_of(piece.identity)) for piece in pieces]
        wanted = {DocumentKey(p.identity, p.document_id) for p, place in places if place and place.source == source.name}
        if wanted:
            found |= find_files(source, work.prepare, wanted)
    return found


def shards_of(graph: CellGraph, model: str) -> Made[ShardManifest]:
    """A model's shards, those of derived sources included.

    Raises:
        ConfigError: If they are not packed yet.
    """
    derived = [graph.one(DERIVED, derived_name(model, source.name)) for source in graph.config.derived_sources]
    return joined_shards(graph.one(SHARDS, model), derived)


def _is_trained(folder: Path) -> bool:
    # Not whether the artifact is committed: a finished run can be traced while others still train.
    return exists(folder / RunRecord.FILE)
