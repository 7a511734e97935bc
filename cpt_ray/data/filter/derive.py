"""Make a derived source: choose documents among what its parent packed, and pack them into shards of their own.

Flow: packed shards of the parent, scores of its documents -> `derive_source` -> shards with a manifest, and what was chosen
(`SelectionRecord`); all shards -> `count_shared` -> what arms have in common. Memory on the driver: reports, and the counts of
tokens by bucket of a draw (131 kB per group).

Guarantee: a source chosen by scores holds exactly the parent's documents that meet its conditions; a drawn one has the
tokens of the source it is like, to within one document or one part in 16,384 of the parent.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.filter import derive_tasks
from cpt_ray.data.filter.derive_tasks import Bound, DeriveUnit, ParentUnit
from cpt_ray.data.filter.shared_tasks import SharedUnit, count_shared_unit
from cpt_ray.data.run.funnel import check_funnel
from cpt_ray.data.run.merge import shard_table, unit_files
from cpt_ray.data.run.pipeline import DataJob
from cpt_ray.data.run.reports import UnitReports
from cpt_ray.data.run.units import UnitContext
from cpt_ray.data.words import seeded_share
from cpt_ray.edges import store
from cpt_ray.errors import DataError
from cpt_ray.records import (
    ArmsRecord,
    DocumentsRecord,
    Made,
    ScoresRecord,
    SelectionRecord,
    ShardManifest,
    Shared,
    ShownScore,
)

_GROUPS = 20
"""Groups of equal tokens by which a distribution is matched."""
_SHOWN = 20
_POOL = 100
"""Documents on each side, nearest to the threshold, of which `_SHOWN` are drawn."""
_TOLD = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
"""Thresholds whose yields are told where one keeps nothing or everything."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Derivation:
    """What a derived source is made from.

    Attributes:
        source: The derived source.
        root: The source that was read, from which it descends.
        parent: The shards of its parent, and of other sources perhaps.
        documents: The clean documents.
        scores: Scores of the parent's root by classifier.
        like: The shards of the source that a draw is made like.
    """

    source: SourceConfig
    root: str
    parent: Made[ShardManifest]
    documents: Made[DocumentsRecord]
    scores: Mapping[str, Made[ScoresRecord]]
    like: Made[ShardManifest] | None


def derive_source(job: DataJob, made: Derivation) -> tuple[ShardManifest, SelectionRecord]:
    """Choose and pack the documents of a derived source.

    Returns:
        The manifest of its shards, and what was chosen.

    Raises:
        DataError: If it would hold nothing, or all of its parent.
    """
    source, head = made.source, made.parent.record
    folders = {f"scores-{name}": found.folder for name, found in made.scores.items()}
    if made.like is not None:
        folders["like"] = made.like.folder
    context = job.context(documents=made.documents.folder, parent=made.parent.folder, **folders)
    tasks = _parent_units(made)
    choice: dict[str, Any] = {"separator_id": head.separator_id, "bos_id": head.bos_id}
    if source.where is not None:
        choice["bounds"] = tuple(Bound(*condition) for condition in source.conditions)
    else:
        edges = _edges(job, tasks, context) if source.quality_matched is not None else ()
        tasks = [task.model_copy(update={"edges": edges}) for task in tasks]
        choice |= {"edges": edges, "cuts": _cuts(job, tasks, context)}
    units = [DeriveUnit(**{**task.model_dump(), **choice}) for task in tasks]
    done = job.run("derive", derive_tasks.derive_unit, units, context)
    selection = _selection(job, made, done)
    manifest = ShardManifest(
        **{name: getattr(head, name) for name in ShardManifest.model_fields if name not in ("shards", "reports", "samples")}
        | {"task_pids": {"derive": done.pids}},
        shards=shard_table(done),
        reports=check_funnel(done.reports, [source.name]),
    )
    return manifest, selection


def count_shared(
    job: DataJob,
    model: str,
    shards: Mapping[str, Made[ShardManifest]],
    roots: Mapping[str, str],
    arms: Mapping[str, frozenset[str]],
) -> ArmsRecord:
    """Count the distinct documents and tokens of each arm, and those that two arms can both draw.

    Args:
        job: Settings and folder.
        model: Model whose tokens are counted.
        shards: The shards of each source.
        roots: The source that was read, by source.
        arms: The sources of each arm.
    """
    names = list(arms)
    tasks: dict[str, dict[str, str]] = {}
    folders: dict[str, Path] = {}
    for source, (folder, manifest) in shards.items():
        # Folders are inputs of a task, whose checksum must not depend on where they are.
        folders[f"shards-{source}"] = folder
        for entry in manifest.of_source(source):
            tasks.setdefault(f"{roots[source]}-{_place(entry.unit)}", {})[source] = entry.index_path
    units = [
        SharedUnit(
            unit=unit, source="", indices=indices, arms=tuple(tuple(sorted(arms[name] & indices.keys())) for name in names)
        )
        for unit, indices in tasks.items()
    ]
    counted = job.run("shared", count_shared_unit, units, job.context(**folders))
    totals = np.sum([np.load(store.fetched(job.folder / path), allow_pickle=False) for path in counted.paths("counts")], axis=0)
    return ArmsRecord(
        model=model,
        documents={name: int(totals[0, place, place]) for place, name in enumerate(names)},
        tokens={name: int(totals[1, place, place]) for place, name in enumerate(names)},
        shared=tuple(
            Shared(arm=arm, other=other, documents=int(totals[0, one, two]), tokens=int(totals[1, one, two]))
            for one, arm in enumerate(names)
            for two, other in enumerate(names)
            if one != two
        ),
    )


def _parent_units(made: Derivation) -> list[ParentUnit]:
    """One task for each shard of the parent; units of one root are told apart by their number, whatever was derived since."""
    source, by = made.source, made.source.quality_matched
    clean = {_place(unit): unit for unit in made.documents.record.units if unit == f"{made.root}-{_place(unit)}"}
    like = made.like.record.of_source(str(source.like)) if made.like is not None else ()
    likes = {_place(entry.unit): entry.index_path for entry in like}
    entries = made.parent.record.of_source(str(source.parent))
    units = [clean[_place(entry.unit)] for entry in entries]
    tasks = []
    for entry, unit, files in zip(entries, units, unit_files(made.documents.folder, units), strict=True):
        place = _place(entry.unit)
        tasks.append(
            ParentUnit(
                unit=f"{source.name}-{place}",
                source=source.name,
                shard=entry.path,
                index=entry.index_path,
                clean=files["clean"],
                scores={name: found.record.units[unit] for name, found in made.scores.items()},
                like=likes.get(place),
                by=by.by if by is not None else None,
            )
        )
    return tasks


def _place(unit: str) -> str:
    return unit.rpartition("-")[2]


def _edges(job: DataJob, tasks: Sequence[ParentUnit], context: UnitContext) -> tuple[int, ...]:
    """Borders of groups of quality that hold about equal tokens of the source to be like."""
    counted = job.run("quality", derive_tasks.count_quality, tasks, context)
    tokens = _sum(job, counted)
    ends = np.searchsorted(np.cumsum(tokens), np.arange(1, _GROUPS) * tokens.sum() / _GROUPS, side="left") + 1
    return tuple(dict.fromkeys(int(edge) for edge in ends if edge < derive_tasks.QUALITY_BINS))


def _cuts(job: DataJob, tasks: Sequence[ParentUnit], context: UnitContext) -> tuple[int, ...]:
    """Per group, the number of buckets whose documents have about the tokens of the source to be like.

    What a group has too much or too little, because documents are whole, the next one makes up for.
    """
    counted = _sum(job, job.run("draw", derive_tasks.count_draw, tasks, context))
    buckets, wanted = counted[:, : derive_tasks.BUCKETS], counted[:, derive_tasks.BUCKETS]
    cuts, owed = [], 0
    for tokens, want in zip(buckets, wanted.tolist(), strict=True):
        reached = np.concatenate([[0], np.cumsum(tokens)])
        cut = int(np.abs(reached - want - owed).argmin()) if want else 0
        owed += want - int(reached[cut])
        cuts.append(cut)
    return tuple(cuts)


def _sum(job: DataJob, units: UnitReports) -> Counts:
    load = functools.partial(np.load, allow_pickle=False)
    total: Counts = functools.reduce(np.add, (load(store.fetched(job.folder / path)) for path in units.paths("tokens")))
    return total


def _selection(job: DataJob, made: Derivation, done: UnitReports) -> SelectionRecord:
    source = made.source
    totals = {name: done.total(name) for name in ("documents", "tokens", "parent_documents", "parent_tokens")}
    _refuse_vacuous(job, made, totals["documents"], totals["parent_documents"], done)
    near = store.fetched_files(job.folder / entry.path for entry in done.files("near"))
    return SelectionRecord(
        source=source.name, parent=str(source.parent), rule=source.rule, shown=_shown(near, job.prepare.seed), **totals
    )


def _refuse_vacuous(job: DataJob, made: Derivation, chosen: int, of: int, done: UnitReports) -> None:
    source = made.source
    if 0 < chosen < of or (source.where is None and chosen):
        return
    kept = "nothing" if not chosen else "everything"
    fix = f"give source {source.name} another {source.rules[0]}"
    if source.where is not None:
        values = [
            value
            for entry in done.files("near")
            for value in pq.read_table(store.fetched(job.folder / entry.path), columns=["probability"])[
                "probability"
            ].to_pylist()
        ]
        nearest = f"scores nearest to it reach from {min(values):.3g} to {max(values):.3g}"
        found = "; ".join(f"{name} finds {_found(scores)}" for name, scores in made.scores.items())
        fix = f"choose another threshold: in {made.root} {found}; {nearest}"
    raise DataError(
        f"source {source.name}: {source.where or source.rules[0]} keeps {kept} of {source.parent} ({of} documents)", fix=fix
    )


def _found(scores: Made[ScoresRecord]) -> str:
    """How many scored documents a few thresholds find: prepare prints yields only once every source is derived."""
    counts = np.zeros(len(_TOLD), dtype=np.int64)
    for path in scores.record.units.values():
        values = pq.read_table(store.fetched(scores.folder / path), columns=["probability"])["probability"].to_numpy()
        counts += (values[:, None] >= np.array(_TOLD, dtype=np.float32)).sum(axis=0)
    return ", ".join(f"{found} documents at {threshold:g}" for found, threshold in zip(counts, _TOLD, strict=True))


def _shown(files: Sequence[Path], seed: int) -> tuple[ShownScore, ...]:
    """Draw documents near the threshold, as many from above as from below, nearest first."""
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    shown = []
    for side in ("above", "below"):
        nearest = sorted((row for row in rows if row["side"] == side), key=lambda row: (row["away"], row["identity"]))[:_POOL]
        drawn = sorted(nearest, key=lambda row: seeded_share("shown", seed, row["identity"]))[:_SHOWN]
        drawn.sort(key=lambda row: (row["away"], row["identity"]))
        shown += [ShownScore(**{key: value for key, value in row.items() if key != "away"}) for row in drawn]
    return tuple(shown)
