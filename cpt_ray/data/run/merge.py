"""From the files of units to the files of an artifact: held-out sets, exam hits, manifest entries.

Called by `pipeline` on the driver. Unit reports and the files they name in, whole files or records out, in canonical order.
Memory: about 100 bytes per held-out document, and the exam hits; never the text of more than one document.

Guarantee: the order of the output is a function of content and settings, not of which unit finished first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.decontaminate import ExamIndex
from cpt_ray.data.run.units import UnitTask, unit_report
from cpt_ray.data.split import PARTS
from cpt_ray.edges import storage, store
from cpt_ray.records import (
    ExamHit,
    ExamScan,
    HeldOutSet,
    RepeatedIds,
    ShardEntry,
    ShardTable,
    UnitReport,
    read_items,
)


def count_by_source(tasks: Sequence[UnitTask], counts: Iterable[Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Sum the counts of units by source, most frequent first; sources without counts are left out."""
    totals: dict[str, Counter[str]] = {}
    for task, found in zip(tasks, counts, strict=True):
        if found:
            totals.setdefault(task.source, Counter()).update(found)
    return {source: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))) for source, counts in totals.items()}


def merge_repeated_ids(counts: Iterable[Mapping[str, RepeatedIds]]) -> dict[str, RepeatedIds]:
    """Sum the repeated ids of all partitions by source; an id is in one partition only."""
    totals: dict[str, RepeatedIds] = {}
    for found in counts:
        for source, repeated in found.items():
            totals[source] = totals.get(source, RepeatedIds()) + repeated
    return totals


def unit_files(documents_folder: Path, unit: str) -> dict[str, str]:
    """Paths of a clean unit and its verdicts, as arguments of `KeptUnit`."""
    cleaned = unit_report(documents_folder, "clean", unit)
    decided = unit_report(documents_folder, "near_duplicates", unit)
    return {
        "unit": unit,
        "source": cleaned.reports[0].source,
        "clean": cleaned.path("clean"),
        "near_duplicates": decided.path("verdicts"),
    }


def merge_drawn(units: Sequence[UnitReport], source: SourceConfig, folder: Path) -> list[HeldOutSet]:
    """Write a source's sets in hash order; keeps the location of each held-out document in memory, not its text."""
    if source.held_out_role is None:
        return []
    places: dict[str, list[tuple[float, int, int, int, int]]] = {part: [] for part in PARTS}
    for number, report in enumerate(units):
        table = pq.read_table(store.fetched(folder / report.path("table")), columns=["part", "order", "start", "size", "bytes"])
        for row in table.to_pylist():
            places[row["part"]].append((row["order"], number, row["start"], row["size"], row["bytes"]))
    sets = []
    for part in PARTS:
        if not places[part]:
            continue
        path = folder / f"{source.name}-{part}.jsonl"
        with storage.atomic_path(path) as temporary, temporary.open("wb") as out:
            for _, number, start, size, _ in sorted(places[part]):
                with store.fetched(folder / units[number].path("documents")).open("rb") as lines:
                    lines.seek(start)
                    out.write(lines.read(size))
        sets.append(
            HeldOutSet(
                source=source.name,
                role=source.held_out_role,
                part=part,
                path=path.name,
                documents=len(places[part]),
                bytes=sum(place[-1] for place in places[part]),
            )
        )
    return sets


def drawn_ngrams(drawn: Sequence[UnitReport], folder: Path) -> Iterator[tuple[Any, int]]:
    """The n-grams of every held-out document and their length, as expected by `ContainmentIndex.build`."""
    for report in drawn:
        table = pq.read_table(store.fetched(folder / report.path("table")), columns=["ngrams", "ngram_words"])
        for grams, used in zip(table["ngrams"], table["ngram_words"].to_pylist(), strict=True):
            yield grams.values.to_numpy(), used


def shard_entry(task: UnitTask, report: UnitReport) -> ShardEntry:
    """The manifest's entry of a packed unit."""
    (shard,), (index,) = report.outputs["shard"], report.outputs["index"]
    numbers = {name: value for name, value in report.counts.items() if name in ShardEntry.model_fields}
    return ShardEntry(
        path=shard.path,
        index_path=index.path,
        source=task.source,
        unit=task.unit,
        sha256=shard.sha256,
        size_bytes=shard.size_bytes,
        **numbers,
    )


def shard_table(tasks: Sequence[UnitTask], packed: Sequence[UnitReport]) -> ShardTable:
    """The manifest's entries in canonical order; a unit with nothing left has no shard."""
    return ShardTable.of(shard_entry(task, unit) for task, unit in zip(tasks, packed, strict=True) if unit.counts["rows"])


def write_exam_scan(
    scanned: Sequence[UnitReport], folder: Path, items: Path | None, prepare: PrepareConfig, *, late: bool = False
) -> None:
    """Collect the hits of all units in canonical order, and count them per task."""
    files = [entry for report in scanned for entry in report.outputs["hits"]]
    lines = [line for entry in files for line in store.fetched(folder / entry.path).read_text().splitlines()]
    index = ExamIndex.build(read_items(items) if items else (), prepare.decontaminate.ngram_words)
    scans = index.summary(ExamHit.from_json(line) for line in lines)
    storage.write_atomic(folder / ExamScan.HITS, "".join(f"{line}\n" for line in lines))
    found = ExamScan(tasks=tuple(scan.model_copy(update={"late": late}) for scan in scans))
    storage.write_atomic(folder / ExamScan.FILE, found.to_json())
