"""Hash everything again: raw files, artifacts, shards; and say which file is not what it was.

Every finished artifact lists its files with sizes and hashes; its name holds the fingerprint of its settings and inputs. So the
chain from a raw file to a score is whole if each artifact's files are those that it lists, and the raw files those that it was
read from. Memory: one file's buffer; cost: one reading of everything.

Guarantee: a byte that changed since a file was written is found, whatever its time says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import check_inputs, source_files
from cpt_ray.data.rows.shards import ShardReader
from cpt_ray.edges.storage import verify_files
from cpt_ray.errors import ArtifactError, CptRayError
from cpt_ray.records import FileEntry, ShardManifest
from cpt_ray.study import store
from cpt_ray.study.store import Place
from cpt_ray.study.study import MANIFEST, Study


class Checked(NamedTuple):
    """One thing that was checked: its name, what there was of it, and what is wrong with it."""

    name: str
    amount: str
    problems: tuple[CptRayError, ...]
    raw: bool = False
    """Whether it is input of the study, not an artifact."""


def verify_study(study: Study, done: Callable[[Checked], None]) -> list[Checked]:
    """Hash all artifacts of a study that are there, and the raw files that its documents were read from.

    Args:
        study: The study.
        done: Told about each thing as it is checked.

    Returns:
        Everything that was checked.
    """
    found: list[Checked] = []
    for spot in study.graph.all():
        if not (spot.folder / store.FILE).exists():
            continue
        checks = [_check_artifact(spot)]
        if spot.stage == "documents" and not checks[0].problems:
            checks += [_check_raw_files(spot, source) for source in study.config.sources]
        for checked in checks:
            done(checked)
            found.append(checked)
    return found


def _check_raw_files(spot: Place, source: SourceConfig) -> Checked:
    """Hash the files that a source was read from; where the artifact holds no hash of them, compare their versions."""
    try:
        files = source_files(source)[1]
        check_inputs(spot.folder, source, deep=True)
    except CptRayError as error:
        return Checked(f"raw files of {source.name}", "as they are now", (error,), raw=True)
    size = sum(file.size_bytes for file in files)
    return Checked(f"raw files of {source.name}", f"{len(files)} files, {size / 1e6:.1f} MB", (), raw=True)


def _check_artifact(spot: Place) -> Checked:
    """Hash an artifact's files, each on its own, so that every one that is wrong is named."""
    try:
        artifact = store.read(spot)
    except CptRayError as error:
        return Checked(spot.label, "its record", (error,))
    problems = [problem for entry in artifact.files if (problem := _problem(spot, entry)) is not None]
    size = sum(entry.size_bytes for entry in artifact.files)
    if spot.stage == "shards" and not problems:
        problems += _check_manifest(spot)
    return Checked(spot.label, f"{len(artifact.files)} files, {size / 1e6:.1f} MB", tuple(problems))


def _problem(spot: Place, entry: FileEntry) -> CptRayError | None:
    try:
        verify_files(spot.folder, [entry], deep=True)
    except ArtifactError as error:
        return error
    return None


def _check_manifest(spot: Place) -> list[CptRayError]:
    """What a manifest says of its shards against the shards themselves: rows and loss-bearing tokens, source by source."""
    try:
        manifest = ShardManifest.load(spot.folder / MANIFEST)
        reader = ShardReader(spot.folder, manifest, verify=False)  # they have just been hashed
        for source in manifest.shards.sources:
            for number, entry in enumerate(manifest.of_source(source)):
                loss = reader.loss_of_shard(source, number)
                rows, tokens = len(loss), int(loss.sum())
                if (rows, tokens) != (entry.rows, entry.loss_tokens):
                    raise ArtifactError(
                        f"{spot.folder / entry.path}: {rows} rows and {tokens} loss-bearing tokens, but the manifest "
                        f"says {entry.rows} and {entry.loss_tokens}",
                        fix=f"delete {spot.folder} and run the same command again; it is made anew",
                    )
    except CptRayError as error:
        return [error]
    return []
