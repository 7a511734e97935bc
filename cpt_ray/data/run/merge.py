"""From the files of units to the files of an artifact: held-out sets, exam hits, manifest entries.

Called by `pipeline` on the driver. Unit reports and the files they name in, whole files or records out, in canonical order.
Memory: about 100 bytes per held-out document, and the names of the documents with exam hits; never the text of more than one
document, nor more than one hit.

Guarantee: the order of the output is a function of content and settings, not of which unit finished first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.decontaminate import ExamIndex
from cpt_ray.data.run.reports import UnitReports, unit_paths
from cpt_ray.data.run.units import read_columns
from cpt_ray.data.split import PARTS
from cpt_ray.edges import storage, store
from cpt_ray.records import ExamHit, ExamScan, HeldOutSet, ShardTable, read_items


def unit_files(documents_folder: Path, units: Sequence[str]) -> Iterator[dict[str, str]]:
    """Paths of clean units and their verdicts, as arguments of `KeptUnit`."""
    cleaned = unit_paths(documents_folder, "clean", "clean", units)
    decided = unit_paths(documents_folder, "near_duplicates", "verdicts", units)
    for unit, clean, verdicts in zip(units, cleaned, decided, strict=True):
        yield {"unit": unit, "source": unit.rpartition("-")[0], "clean": clean, "near_duplicates": verdicts}


def merge_drawn(drawn: UnitReports, source: SourceConfig, folder: Path) -> list[HeldOutSet]:
    """Write a source's sets in hash order; keeps the location of each held-out document in memory, not its text."""
    if source.held_out_role is None:
        return []
    places: dict[str, list[tuple[float, int, int, int, int]]] = {part: [] for part in PARTS}
    files = zip(drawn.sources, drawn.paths("table"), drawn.paths("documents"), strict=True)
    own = [(table, documents) for name, table, documents in files if name == source.name]
    for number, (name, _) in enumerate(own):
        table = read_columns(store.fetched(folder / name), columns=["part", "order", "start", "size", "bytes"])
        for row in table.to_pylist():
            places[row["part"]].append((row["order"], number, row["start"], row["size"], row["bytes"]))
    sets = []
    for part in PARTS:
        if not places[part]:
            continue
        path = folder / f"{source.name}-{part}.jsonl"
        with storage.atomic_path(path) as temporary, temporary.open("wb") as out:
            for _, number, start, size, _ in sorted(places[part]):
                with store.fetched(folder / own[number][1]).open("rb") as lines:
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


def drawn_ngrams(drawn: UnitReports, folder: Path) -> Iterator[tuple[Any, int]]:
    """The n-grams of every held-out document and their length, as expected by `ContainmentIndex.build`."""
    for path in drawn.paths("table"):
        table = read_columns(store.fetched(folder / path), columns=["ngrams", "ngram_words"])
        for grams, used in zip(table["ngrams"], table["ngram_words"].to_pylist(), strict=True):
            yield grams.values.to_numpy(), used


def shard_table(packed: UnitReports) -> ShardTable:
    """The manifest's entries in canonical order; a unit with nothing left has no shard."""
    shards, indices = packed.files("shard"), packed.files("index")
    places = np.flatnonzero(packed.counts("rows"))
    sources = pa.array([packed.sources[place] for place in places.tolist()], pa.string()).dictionary_encode()
    given = {name: shards.arrow(name) for name in ("path", "unit", "sha256", "size_bytes")}
    given |= {"index_path": indices.arrow("path"), "source": sources}
    columns = [given.get(field.name, pa.array(packed.counts(field.name)[places])) for field in ShardTable.SCHEMA]
    return ShardTable(pa.RecordBatch.from_arrays(columns, schema=ShardTable.SCHEMA))


def write_exam_scan(
    scanned: UnitReports, folder: Path, items: Path | None, prepare: PrepareConfig, *, late: bool = False
) -> None:
    """Collect the hits of all units in canonical order, and count them per task."""
    paths = store.fetched_files(folder / entry.path for entry in scanned.files("hits"))
    index = ExamIndex.build(read_items(items) if items else (), prepare.decontaminate.ngram_words)
    with storage.atomic_path(folder / ExamScan.HITS) as temporary, temporary.open("wb") as out:
        scans = index.summary(_copied(paths, out))
    found = ExamScan(tasks=tuple(scan.model_copy(update={"late": late}) for scan in scans))
    storage.write_atomic(folder / ExamScan.FILE, found.to_json())


def _copied(paths: Iterable[Path], out: BinaryIO) -> Iterator[ExamHit]:
    """The hits in some files, while these are written to another one."""
    for path in paths:
        with path.open("rb") as lines:
            for line in lines:
                out.write(line)
                yield ExamHit.from_json(line)
