"""Which files an artifact has, with sizes and hashes: what `study.store` writes into its record.

On a disk the files are found by the globs of the stage, and hashed. In a bucket they are those of the bucket and what is only
here, which is sent; hashes are those of whoever wrote them, so that a driver reads no shard and no weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cpt_ray.edges.storage import file_entry
from cpt_ray.edges.store import fetched, fetched_files, is_mirrored, listing, matches, push
from cpt_ray.edges.store.lines import is_segment, join_segments
from cpt_ray.edges.store.transfer import Stored, at_once, is_temporary, known_entries
from cpt_ray.records import Artifact, FileEntry, UnitReport


def made_files(folder: Path, patterns: Sequence[str]) -> tuple[FileEntry, ...]:
    """The files of an artifact that was built; afterwards its store has all of them.

    Args:
        folder: The artifact's folder.
        patterns: Globs of its files.

    Raises:
        ArtifactError: If a store refuses one.
    """
    if not is_mirrored(folder):
        return tuple(file_entry(folder, path) for path in sorted(_found(folder, patterns)))
    stored = listing(folder)
    join_segments(folder, stored)
    local = {path.relative_to(folder).as_posix(): path for path in _found(folder, patterns) if _belongs(path.name)}
    sizes = {name: one.size_bytes for name, one in stored.items()}
    at_once(push, [path for name, path in local.items() if sizes.get(name) != path.stat().st_size])
    names = {name for name in stored if _belongs(Path(name).name) and any(matches(name, one) for one in patterns)}
    known = {entry.path: entry for entry in _described(folder, stored)}
    return tuple(known.get(name) or file_entry(folder, fetched(folder / name)) for name in sorted({*names, *local}, key=Path))


def _found(folder: Path, patterns: Sequence[str]) -> set[Path]:
    # Only what the stage declares: checkpoints and scratch in the same folder may change without contradicting the record.
    return {path for one in patterns for path in folder.glob(one) if path.is_file() and path.name != Artifact.FILE}


def _belongs(name: str) -> bool:
    return name != Artifact.FILE and not is_segment(name) and not is_temporary(Path(name))


def _described(folder: Path, stored: Mapping[str, Stored]) -> Iterator[FileEntry]:
    """Entries of the files that whoever wrote them has described: units in their reports, folders in their index."""
    for name, entry in known_entries(folder, stored):
        yield FileEntry(path=name, **entry)
    for path in fetched_files(folder / name for name in stored if matches(name, "units/*/*.json")):
        yield from UnitReport.load(path).files
