"""Worker tasks that find duplicates: compare within a partition of keys, link within a partition of documents, decide.

`duplicates` chains the tasks, and `pipeline` passes them to Ray Data. Files, all except the last removed once the last is
complete: `keys/`, `ids/`, `sketches/` (written by `document_tasks`), `pairs/`, `repeats/`, `links/`, `roots/`,
`near_duplicates/` (component, reason, duplicate_of; row-aligned with `clean/`). Memory: one partition of keys and the sketches
of documents that share one; one partition of pairs; or the verdicts of one unit.

Guarantee: a function reads only files that its task names and writes files named by their content, so it is idempotent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cpt_ray.data.dedup import components
from cpt_ray.data.dedup.buckets import Similar, duplicates
from cpt_ray.data.dedup.components import Pairs, both_ways, downward, partition_of
from cpt_ray.data.dedup.exchange import read_partition, write_partitions
from cpt_ray.data.dedup.signatures import Sketches, similarity, threshold
from cpt_ray.data.identity import count_repeated_ids
from cpt_ray.data.run.document_tasks import REFERENCE_BITS, id_partitions, write_parquet
from cpt_ray.data.run.units import (
    Outputs,
    Samples,
    Tally,
    UnitContext,
    UnitTask,
    finish_unit,
    keep_bytes,
    read_columns,
    write_content,
    write_dropped,
)
from cpt_ray.data.words import Hashes
from cpt_ray.edges import store
from cpt_ray.records import DocumentKey, ShownDocument, UnitFacts, UnitReport

_LARGEST = 3
_MEMBERS = 4
_COMPARE_ROWS = 1 << 14
_SHOWN_CHARACTERS = 200
_PAIR_SCHEMA = pa.schema([("first", pa.uint64()), ("second", pa.uint64())])
_VERDICT_SCHEMA = pa.schema([("component", pa.string()), ("reason", pa.string()), ("duplicate_of", pa.uint64())])


class PairUnit(UnitTask):
    """Find the duplicates in one partition of the key space, and count the ids that repeat in it.

    `keys`, `ids` and `sketches` are JSON lists of files, in the order of the units' numbers.
    """

    partition: int
    partitions: int
    keys: str
    ids: str
    sketches: str


class LinkUnit(UnitTask):
    """Take one step toward components with all pairs of one partition of the documents; `pairs` is a JSON list of files."""

    step: Literal["large_star", "small_star"]
    partition: int
    partitions: int
    pairs: str


class RootUnit(UnitTask):
    """Distribute (document, root) to the `units`; a partition of None means all partitions, still to be solved."""

    partition: int | None
    pairs: str
    units: int


class VerdictUnit(UnitTask):
    """Write the duplicate verdicts of one clean unit; `show` lists rows to quote."""

    number: int
    clean: str
    roots: str
    repeats: str
    show: tuple[int, ...] = ()


def unit_number(documents: Hashes) -> npt.NDArray[np.int64]:
    """Number of the unit that each document is in."""
    return (documents >> np.uint64(REFERENCE_BITS)).astype(np.int64)


def pair_unit(task: PairUnit, context: UnitContext) -> UnitReport:
    """Compare the documents that share a key of this partition, and count the ids in it that repeat."""
    keys = read_partition(_listed(context, task.keys), task.partition)
    sketches = _listed(context, task.sketches)
    at_least = threshold(context.prepare.near_duplicates) or 0.0
    found = duplicates(keys, lambda documents: _comparer(documents, _read_sketches(sketches, documents), at_least))
    pairs = both_ways(found.pairs)
    repeats = pa.table([found.repeats], names=["document"])
    place, owner = partition_of(pairs[:, 0], task.partitions), unit_number(found.repeats)
    outputs = {
        "pairs": write_content(
            context.root, f"pairs/{task.unit}", ".arrow", lambda p: write_partitions(_table(pairs), place, p, task.partitions)
        ),
        "repeats": write_content(
            context.root, f"repeats/{task.unit}", ".arrow", lambda p: write_partitions(repeats, owner, p, len(sketches))
        ),
    }
    counts = {"pairs": len(found.pairs), "compared": found.candidates, "left": found.left}
    repeated = {}
    if task.partition < id_partitions(task.partitions):
        ids = read_partition(_listed(context, task.ids), task.partition)
        repeated = count_repeated_ids(ids, [source.name for source in context.sources])
    return finish_unit(task, context, "duplicate_pairs", outputs, UnitFacts(counts=counts, repeated_ids=repeated))


def _read_sketches(paths: Sequence[Path], documents: Hashes) -> Sketches:
    """Sketches of documents, sorted by reference, from their units' files; only these rows are read."""
    numbers = unit_number(documents)
    rows = (documents & np.uint64((1 << REFERENCE_BITS) - 1)).astype(np.int64)
    needed = np.unique(numbers).tolist()
    here = store.fetched_files(paths[number] for number in needed)
    parts = [_mapped(path)[rows[numbers == number]] for number, path in zip(needed, here, strict=True)]
    return np.concatenate(parts) if parts else np.empty((0, 1), dtype=np.uint8)


def _mapped(path: Path) -> Sketches:
    """Memory-map a file of `np.save` with one open, where `np.load` takes two."""
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, kind = np.lib.format.read_array_header_1_0(stream)
        return np.memmap(stream, dtype=kind, mode="r", offset=stream.tell(), shape=shape)


def _comparer(documents: Hashes, sketches: Sketches, at_least: float) -> Similar:
    def similar(first: Hashes, second: Hashes) -> npt.NDArray[np.bool_]:
        result = np.zeros(len(first), dtype=np.bool_)
        # In slices: gathered sketches of all candidates at once would be bands x rows bytes per pair, twice.
        for start in range(0, len(first), _COMPARE_ROWS):
            rows = slice(start, start + _COMPARE_ROWS)
            one, other = np.searchsorted(documents, first[rows]), np.searchsorted(documents, second[rows])
            result[rows] = similarity(sketches[one], sketches[other]) >= at_least
        return result

    return similar


def link_unit(task: LinkUnit, context: UnitContext) -> UnitReport:
    """Link the documents of a partition to the smallest of their neighbors, and repartition the pairs for the next step."""
    pairs = _pairs(_listed(context, task.pairs), task.partition)
    counts = {}
    if task.step == "large_star":
        counts["checksum"] = components.checksum(pairs)
        pairs = components.large_star(pairs)
    else:
        pairs = both_ways(components.small_star(pairs))
    place = partition_of(pairs[:, 0], task.partitions)
    entry = write_content(
        context.root, f"links/{task.unit}", ".arrow", lambda p: write_partitions(_table(pairs), place, p, task.partitions)
    )
    return finish_unit(task, context, task.unit.rsplit("-", 1)[0], {"pairs": entry}, UnitFacts(counts=counts))


def root_unit(task: RootUnit, context: UnitContext) -> UnitReport:
    """Write the root of each document, partitioned by unit, and count components by size."""
    pairs = _pairs(_listed(context, task.pairs), task.partition)
    if task.partition is None:
        pairs = both_ways(components.solve(downward(pairs)))
    pairs = components.unique(pairs)
    # Pairs are stored both ways: downward they name a document's root, upward a root's members.
    links, members = pairs[pairs[:, 0] > pairs[:, 1]], pairs[pairs[:, 0] < pairs[:, 1]]
    roots, starts, sizes = np.unique(members[:, 0], return_index=True, return_counts=True)
    largest = [
        {
            "documents": int(sizes[i]) + 1,
            "members": members[starts[i] : starts[i] + _MEMBERS - 1, 1].tolist(),
            "root": int(root),
        }
        for i, root in sorted(enumerate(roots), key=lambda entry: (-sizes[entry[0]], entry[1]))[:_LARGEST]
    ]
    owner = unit_number(links[:, 0])
    outputs = {
        "roots": write_content(
            context.root, f"roots/{task.unit}", ".arrow", lambda p: write_partitions(_table(links), owner, p, task.units)
        ),
        "largest": keep_bytes(context.root, f"roots/{task.unit}", ".json", json.dumps(largest).encode()),
    }
    facts = UnitFacts(component_sizes=components.histogram((sizes + 1).tolist()))
    return finish_unit(task, context, "components", outputs, facts)


def verdict_unit(task: VerdictUnit, context: UnitContext) -> UnitReport:
    """Write component, reason and the document kept instead for every document of a clean unit."""
    source = task.source
    tally, samples = Tally("near_duplicates", source), Samples("near_duplicates", source, context.prepare)
    table = read_columns(context.file(task.clean), columns=["identity", "id", "bytes", "exact"])
    roots = _pairs(_listed(context, task.roots), task.number)
    kept_instead = dict(zip((roots[:, 0] & np.uint64((1 << REFERENCE_BITS) - 1)).tolist(), roots[:, 1].tolist(), strict=True))
    repeated = read_partition(_listed(context, task.repeats), task.number)["document"].to_numpy()
    repeats = set((repeated & np.uint64((1 << REFERENCE_BITS) - 1)).tolist())
    names: list[str | None] = []
    reasons: list[str | None] = []
    for row, (size, exact) in enumerate(zip(table["bytes"].to_pylist(), table["exact"].to_pylist(), strict=True)):
        # An exact copy is reported as that even if a band joined it first.
        if row in kept_instead:
            names.append(None)
            reasons.append("exact_duplicate" if row in repeats else "near_duplicate")
            tally.drop(str(reasons[-1]), size)
        else:
            names.append(exact.hex())
            reasons.append(None)
            tally.keep(size)
    shown: list[ShownDocument] = []
    if kept_instead or task.show:
        texts = read_columns(context.file(task.clean), columns=["text"])["text"]
        for row in sorted(kept_instead):
            samples.add(str(reasons[row]), _key(table, row), texts[row].as_py())
        for row in task.show:
            quoted = {**_key(table, row)._asdict(), "text": texts[row].as_py()[:_SHOWN_CHARACTERS]}
            shown.append(ShownDocument(reference=(task.number << REFERENCE_BITS) + row, **quoted))
    columns = [names, reasons, [kept_instead.get(row) for row in range(len(names))]]
    verdicts = pa.table(columns, schema=_VERDICT_SCHEMA)
    entry = write_content(context.root, f"near_duplicates/{task.unit}", ".parquet", lambda path: write_parquet(verdicts, path))
    outputs: Outputs = {"verdicts": entry, "dropped": write_dropped(task, context, samples)}
    facts = UnitFacts(reports=(tally.report(),), samples=samples.records(), shown=tuple(shown))
    return finish_unit(task, context, "near_duplicates", outputs, facts)


def _key(table: pa.Table, row: int) -> DocumentKey:
    return DocumentKey(table["identity"][row].as_py(), table["id"][row].as_py())


def _listed(context: UnitContext, listing: str) -> list[Path]:
    """The files of a list; those in a bucket are not fetched."""
    return [context.root / name for name in json.loads(context.file(listing).read_bytes())]


def _pairs(paths: Sequence[Path], partition: int | None) -> Pairs:
    table = read_partition(paths, partition)
    return np.stack([table["first"].to_numpy(), table["second"].to_numpy()], axis=1)


def _table(pairs: Pairs) -> pa.Table:
    return pa.table([np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])], schema=_PAIR_SCHEMA)
