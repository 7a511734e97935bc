"""Worker tasks of derived sources: choose among the packed documents of a parent's unit, and pack those into rows of their own.

Composed by `derive`. What is chosen from is what the parent packed: neither held-out nor probe nor exam text can come
back, and tokens are copied, not made again. Files: `drawn/` and `quality/` (counts of tokens), `near/` (Parquet: documents near
a threshold), `shards/` (Arrow, and an index). Memory: one unit's tokens.

Guarantee: a derived source's documents are its parent's, by identity, token for token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpt_ray.config.sections.derived import Comparator
from cpt_ray.data.rows.pack import pack, permute
from cpt_ray.data.rows.shard_index import PackedDocuments, read_documents_of_shard, write_index
from cpt_ray.data.rows.shards import write_shard
from cpt_ray.data.run.document_tasks import write_parquet
from cpt_ray.data.run.training_tasks import shard_counts
from cpt_ray.data.run.units import Outputs, Tally, UnitContext, UnitTask, finish_unit, write_content
from cpt_ray.data.words import seeded_share
from cpt_ray.records import UnitFacts, UnitReport

BUCKETS = 16_384
"""Steps of a random draw: it has the tokens it aims at to within the parent's / 16,384, or one document."""
QUALITY_BINS = 4_096
"""Bins of a score's log-odds, from which groups of equal tokens are made."""
_LIMIT = 16.0
_NEAR = 40
_SHOWN_CHARACTERS = 400

Values = npt.NDArray[np.float64]


class Bound(NamedTuple):
    """A condition on a score."""

    classifier: str
    comparator: Comparator
    threshold: float


class YieldUnit(UnitTask):
    """Count a unit's packed documents by score; `index` is in the `shards` input, `scores` in `scores`."""

    index: str
    scores: str
    thresholds: tuple[float, ...]


class ParentUnit(UnitTask):
    """A unit of a parent, as packed: in the `parent` input; `clean` is in `documents`, scores in `scores-CLASSIFIER`."""

    shard: str
    index: str
    clean: str
    scores: dict[str, str]
    like: str | None = None
    """The index of the same unit of the source that a draw is made like, in the `like` input."""
    by: str | None = None
    edges: tuple[int, ...] = ()
    """First quality bin of each group but the first one."""


class DeriveUnit(ParentUnit):
    """Choose documents of a parent's unit, and pack them."""

    bounds: tuple[Bound, ...] = ()
    cuts: tuple[int, ...] | None = None
    """Per group, the bucket before which documents are drawn; None for a choice by bounds."""
    separator_id: int
    bos_id: int | None


def count_yield(task: YieldUnit, context: UnitContext) -> UnitReport:
    """Count documents and tokens from each threshold on, int64[2, thresholds]."""
    packed = read_documents_of_shard(context.input("shards", task.index))
    probabilities = _scores(context.input("scores", task.scores), packed)
    # As float32, like the scores, so that 0.8 is not above itself.
    place = np.searchsorted(np.array(task.thresholds, dtype=np.float32), probabilities, side="right")
    counts = [np.bincount(place, weight, minlength=len(task.thresholds) + 1) for weight in (None, packed.tokens)]
    from_threshold = np.array([count[:0:-1].cumsum()[::-1] for count in counts]).astype(np.int64)
    entry = write_content(context.root, f"yield/{task.unit}", ".npy", lambda path: _write(path, from_threshold))
    return finish_unit(task, context, "yield", {"counts": entry})


def count_quality(task: ParentUnit, context: UnitContext) -> UnitReport:
    """Count the tokens of the source to be like by quality bin, int64[bins]."""
    found = np.zeros(QUALITY_BINS)
    if task.like is not None:
        like = read_documents_of_shard(context.input("like", task.like))
        found += np.bincount(_quality(task, context, like), like.tokens, minlength=QUALITY_BINS)
    entry = write_content(context.root, f"quality/{task.unit}", ".npy", lambda path: _write(path, found.astype(np.int64)))
    return finish_unit(task, context, "quality", {"tokens": entry})


def count_draw(task: ParentUnit, context: UnitContext) -> UnitReport:
    """Count tokens, int64[groups, buckets + 1]: of the parent by bucket; in the last column, of the source to be like."""
    packed = read_documents_of_shard(context.input("parent", task.index))
    found = np.zeros((len(task.edges) + 1, BUCKETS + 1))
    np.add.at(found, (_groups(task, context, packed), _buckets(task, context, packed)), packed.tokens)
    if task.like is not None:
        like = read_documents_of_shard(context.input("like", task.like))
        np.add.at(found[:, BUCKETS], _groups(task, context, like), like.tokens)
    entry = write_content(context.root, f"draws/{task.unit}", ".npy", lambda path: _write(path, found.astype(np.int64)))
    return finish_unit(task, context, "draw", {"tokens": entry})


def derive_unit(task: DeriveUnit, context: UnitContext) -> UnitReport:
    """Pack the chosen documents of a parent's unit, in the order in which they were read."""
    packed = read_documents_of_shard(context.input("parent", task.index))
    if task.cuts is None:
        chosen = np.ones(len(packed), dtype=np.bool_)
        for bound in task.bounds:
            chosen &= meets(_score_of(task, context, bound.classifier, packed), bound)
    else:
        chosen = _buckets(task, context, packed) < np.array(task.cuts)[_groups(task, context, packed)]
    tally = _account(task, context, packed, chosen)
    outputs: dict[str, object] = {}
    counts = {"parent_documents": len(packed), "parent_tokens": int(packed.tokens.sum()), "rows": 0, "documents": 0}
    if chosen.any():
        written, packed_counts = _pack(task, context, packed, chosen)
        outputs |= written
        counts |= packed_counts
    if task.bounds:
        outputs["near"] = _write_near(task, context, packed)
    return finish_unit(task, context, "derive", outputs, UnitFacts(reports=(tally.report(),), counts=counts))  # type: ignore[arg-type]


def meets(probabilities: npt.NDArray[np.float32], bound: Bound) -> npt.NDArray[np.bool_]:
    """Which scores meet a condition; thresholds are compared as float32, like scores."""
    threshold = np.float32(bound.threshold)
    compare = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}[bound.comparator]
    return np.asarray(compare(probabilities, threshold))


def log_odds(probabilities: npt.NDArray[np.float32]) -> Values:
    """Log-odds within the range that float32 probabilities resolve, float64[documents]."""
    inside = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(inside / (1 - inside))


def _pack(
    task: DeriveUnit, context: UnitContext, packed: PackedDocuments, chosen: npt.NDArray[np.bool_]
) -> tuple[Outputs, dict[str, int]]:
    config = context.prepare.pack
    table = pa.ipc.open_file(pa.memory_map(str(context.input("parent", task.shard)))).get_batch(0)
    tokens, lengths = packed.gather(table.column("tokens").values.to_numpy(), config.sequence_length, chosen)
    pieces = pack(lengths, config.sequence_length, config.strategy)
    pieces = permute(pieces, seed=context.prepare.seed, source=task.source, unit=task.unit)
    counts = shard_counts(pieces, lengths, config.sequence_length, bos=task.bos_id is not None)
    starts = np.cumsum(lengths) - lengths
    shape = {"sequence_length": config.sequence_length, "separator_id": task.separator_id}
    stem = f"shards/{task.unit}"
    keys = packed.keys(chosen)
    shard = write_content(context.root, stem, ".arrow", lambda path: write_shard(path, pieces, tokens, starts, **shape))
    index = write_content(context.root, stem, ".index.parquet", lambda path: write_index(path, pieces, keys))
    return {"shard": [shard], "index": [index]}, counts


def _account(task: ParentUnit, context: UnitContext, packed: PackedDocuments, chosen: npt.NDArray[np.bool_]) -> Tally:
    """Documents in = chosen + not chosen, with the bytes of their clean text."""
    clean = pq.read_table(context.input("documents", task.clean), columns=["identity", "bytes"])
    sizes = clean["bytes"].to_numpy()[packed.places_in(clean["identity"])]
    tally = Tally("derive", task.source)
    for size, kept in zip(sizes.tolist(), chosen.tolist(), strict=True):
        tally.keep(size) if kept else tally.drop("not_chosen", size)
    return tally


def _write_near(task: DeriveUnit, context: UnitContext, packed: PackedDocuments) -> object:
    """Write the documents whose score is nearest to the threshold, from both sides, with the beginning of their text."""
    bound = task.bounds[0]
    probabilities = _score_of(task, context, bound.classifier, packed)
    away = log_odds(probabilities) - log_odds(np.array([bound.threshold], dtype=np.float32))
    above = meets(probabilities, Bound(bound.classifier, ">=", bound.threshold))
    nearest = [np.flatnonzero(side)[np.argsort(np.abs(away[side]), kind="stable")[:_NEAR]] for side in (above, ~above)]
    places = np.concatenate(nearest)
    clean = pq.read_table(context.input("documents", task.clean), columns=["identity", "id", "text"])
    shown = clean.take(packed.places_in(clean["identity"])[places])
    sides: list[Literal["above", "below"]] = ["above" if is_above else "below" for is_above in above[places].tolist()]
    table = pa.table(
        {
            "identity": shown["identity"],
            "id": shown["id"],
            "probability": probabilities[places],
            "away": np.abs(away[places]),
            "side": pa.array(sides, type=pa.string()),
            "text": pc.utf8_slice_codeunits(shown["text"], 0, _SHOWN_CHARACTERS),
        }
    )
    return write_content(context.root, f"near/{task.unit}", ".parquet", lambda path: write_parquet(table, path))


def _score_of(task: ParentUnit, context: UnitContext, classifier: str, packed: PackedDocuments) -> npt.NDArray[np.float32]:
    return _scores(context.input(f"scores-{classifier}", task.scores[classifier]), packed)


def _scores(path: Path, packed: PackedDocuments) -> npt.NDArray[np.float32]:
    """The score of each packed document, float32[documents]."""
    table = pq.read_table(path)
    found: npt.NDArray[np.float32] = table["probability"].to_numpy()[packed.places_in(table["identity"])]
    return found


def _quality(task: ParentUnit, context: UnitContext, packed: PackedDocuments) -> npt.NDArray[np.int64]:
    """The quality bin of each document; 0 where no score matters."""
    if task.by is None:
        return np.zeros(len(packed), dtype=np.int64)
    share = (log_odds(_score_of(task, context, task.by, packed)) + _LIMIT) / (2 * _LIMIT)
    return np.clip(share * QUALITY_BINS, 0, QUALITY_BINS - 1).astype(np.int64)


def _groups(task: ParentUnit, context: UnitContext, packed: PackedDocuments) -> npt.NDArray[np.int64]:
    return np.searchsorted(np.array(task.edges, dtype=np.int64), _quality(task, context, packed), side="right")


def _buckets(task: ParentUnit, context: UnitContext, packed: PackedDocuments) -> npt.NDArray[np.int64]:
    """A seeded bucket per document, by source and identity."""
    names = packed.identities.to_pylist()
    shares = [seeded_share("derive", context.prepare.seed, task.source, name) for name in names]
    return (np.array(shares) * BUCKETS).astype(np.int64)


def _write(path: Path, array: npt.NDArray[np.int64]) -> None:
    with path.open("wb") as out:  # np.save would append .npy to a path
        np.save(out, array, allow_pickle=False)
