"""Which files an artifact has, with sizes and hashes: what `study.store` writes into its record.

On a disk the files are found by the globs of the stage; in a bucket they are those of the bucket and what is only here, which
is sent. Hashes are those of whoever wrote a file, so that a driver reads no shard; what nobody described is hashed here.
Memory: 150 bytes per file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.edges.storage import file_entry, listed_sizes
from cpt_ray.edges.store import fetched, is_mirrored, listing, matches, push
from cpt_ray.edges.store.lines import is_segment, join_segments
from cpt_ray.edges.store.transfer import at_once, is_temporary, known_entries
from cpt_ray.records import Artifact, FileEntry, FileTable, UnitFileTable
from cpt_ray.records.base import SHA256


def made_files(folder: Path, patterns: Sequence[str]) -> FileTable:
    """The files of an artifact that was built; afterwards its store has all of them.

    Args:
        folder: The artifact's folder.
        patterns: Globs of its files.

    Raises:
        ArtifactError: If a store refuses one.
    """
    # Only what the stage declares: checkpoints and scratch in the same folder may change without contradicting the record.
    if not is_mirrored(folder):
        found = listed_sizes(folder)
        return _described(folder, {name: size for name, size in found.items() if _belongs(name, patterns)}, found)
    stored = listing(folder)
    join_segments(folder, stored)
    here = {name: size for name, size in listed_sizes(folder).items() if _belongs(name, patterns)}
    sizes = {name: one.size_bytes for name, one in stored.items()}
    at_once(push, [folder / name for name, size in here.items() if sizes.get(name) != size])
    there = {name: size for name, size in sizes.items() if _belongs(name, patterns)}
    return _described(folder, {**there, **here}, stored)


def _belongs(name: str, patterns: Sequence[str]) -> bool:
    if name in (Artifact.FILE, Artifact.COLUMNS) or is_segment(name) or is_temporary(Path(name)):
        return False
    return any(matches(name, one) for one in patterns)


def _described(folder: Path, sizes: Mapping[str, int], everything: Mapping[str, object]) -> FileTable:
    """The entries of files by relative path, with the hashes that are known; one of another size is another file."""
    names = sorted(sizes)
    given = pa.array([sizes[name] for name in names], pa.int64())
    known = FileTable.joined(list(_known(folder, everything)))
    places = pc.index_in(pa.array(names, pa.string()), value_set=known.arrow("path"))
    same = pc.fill_null(pc.equal(known.arrow("size_bytes").take(places), given), False)
    hashes = pc.if_else(same, known.arrow("sha256").take(places), None)
    unknown = np.flatnonzero(hashes.is_null().to_numpy(zero_copy_only=False)).tolist()
    made = [bytes.fromhex(file_entry(folder, fetched(folder / names[place])).sha256) for place in unknown]
    hashes = pc.replace_with_mask(hashes, hashes.is_null(), pa.array(made, SHA256))
    columns = [pa.array(names, pa.string()), given, hashes]
    return FileTable(pa.RecordBatch.from_arrays(columns, schema=FileTable.SCHEMA))


def _known(folder: Path, names: Mapping[str, object]) -> Iterator[pa.RecordBatch]:
    """What was described by whoever wrote it: units in the list of their stage, folders in their index."""
    for path in (fetched(folder / name) for name in names if matches(name, "units/*.arrow")):
        yield UnitFileTable.load(path).entries()
    entries = (FileEntry(path=name, **entry) for name, entry in known_entries(folder, names))
    yield FileTable.batch(list(entries))
