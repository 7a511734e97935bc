"""The door to Hugging Face datasets: resolves name, configuration and split to files that any worker can open.

In: a `DatasetConfig`. Out: `DatasetFiles`, a format and a list of files in the order of the split. Nothing is downloaded:
with a network the files are `hf://` paths at the pinned commit, which workers stream; without one they come from the local
caches. A folder is the output of `save_to_disk`, or is laid out like a dataset on the hub. Called on the driver only.

Guarantee: every listed file belongs to the pinned commit; `datasets` itself, offline, would use the newest cached commit.
"""

import glob
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cpt_ray.config.sections.prepare import DatasetConfig, SourceFormat
from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.source_files import SourceFile, list_source_files, open_source
from cpt_ray.errors import DataError

_FORMATS: dict[str, SourceFormat] = {"parquet": "parquet", "csv": "csv", "text": "text", "arrow": "arrow"}


class NotReachableError(DataError):
    """A dataset that cannot be reached from here and is not cached."""


class DatasetFiles(NamedTuple):
    """The files of one split, in order, and a note on where they were found."""

    format: SourceFormat
    files: list[SourceFile]
    note: str


def resolve_dataset(dataset: DatasetConfig) -> DatasetFiles:
    """Find the files of a split.

    Args:
        dataset: The dataset section of a source.

    Returns:
        The files; none is read.

    Raises:
        DataError: If the configuration or the split does not exist, or the data can neither be reached nor is cached.
    """
    if dataset.revision is None:
        return _folder(dataset)
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        builder = _builder(dataset.name, dataset, revision=dataset.revision)
        format_, paths = _data_files(builder, dataset)
        return DatasetFiles(format_, _hub_listing(paths), "files on the hub, at the pinned commit")
    except OfflineModeIsEnabled as error:
        return _cached(dataset, str(error) or "offline mode is on")
    except OSError as error:
        return _cached(dataset, f"the hub cannot be reached: {error}")


def _describe(dataset: DatasetConfig) -> str:
    parts = [f"configuration {dataset.config}"] if dataset.config else []
    parts += [f"split {dataset.split}"] + ([f"revision {dataset.revision[:12]}"] if dataset.revision else [])
    return f"dataset {dataset.name} ({', '.join(parts)})"


def _builder(path: str, dataset: DatasetConfig, revision: str | None = None) -> Any:
    with needed_for("sources[].dataset"):
        import datasets
    from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    try:
        if revision is not None and datasets.config.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled("offline mode is on (HF_HUB_OFFLINE)")
        return datasets.load_dataset_builder(path, dataset.config, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError, datasets.exceptions.DatasetNotFoundError) as error:
        raise DataError(
            f"{_describe(dataset)}: the hub has no such dataset or revision, or this user has no access to it: {error}",
            fix="check dataset.name and dataset.revision; for a gated dataset accept its terms and set HF_TOKEN",
        ) from error
    except ValueError as error:
        raise DataError(f"{_describe(dataset)}: {error}", fix="set dataset.config to one of its configurations") from error


def _data_files(builder: Any, dataset: DatasetConfig) -> tuple[SourceFormat, list[str]]:
    by_split: Mapping[str, list[str]] = builder.config.data_files or {}
    if dataset.split not in by_split:
        raise DataError(
            f"{_describe(dataset)}: no such split; splits: {', '.join(map(str, by_split))}",
            fix="set dataset.split to one of these",
        )
    paths = [str(path) for path in by_split[dataset.split]]
    kind = type(builder).__module__.split(".")[-1]
    if kind == "json":
        return _json_kind(paths[0]), paths
    if kind not in _FORMATS:
        raise DataError(
            f"{_describe(dataset)}: its files have the format {kind!r}, which cpt-ray does not read",
            fix="load it with `datasets`, write it with save_to_disk, and set dataset.name to that folder",
        )
    return _FORMATS[kind], paths


def _json_kind(path: str) -> SourceFormat:
    """Tell a JSON list from JSON lines; `datasets` calls both `json`."""
    with open_source(path) as stream:
        return "json" if stream.read(1000).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") else "jsonl"


def _hub_listing(paths: list[str]) -> list[SourceFile]:
    import huggingface_hub

    hub = huggingface_hub.HfFileSystem()
    found: dict[str, Mapping[str, Any]] = {}
    for folder in sorted({path.rsplit("/", 1)[0] for path in paths}):  # a request per folder, not one per file
        entries: list[Any] = hub.ls(folder, detail=True)
        found |= {f"hf://{entry['name']}": entry for entry in entries}
    return [SourceFile(path, int(found[path]["size"]), str(found[path].get("blob_id", ""))) for path in paths]


def _folder(dataset: DatasetConfig) -> DatasetFiles:
    folder = Path(dataset.name)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder", fix="give the folder of a dataset, or a name on the hub together with dataset.revision"
        )
    if (folder / "dataset_dict.json").exists():
        splits = _described(folder / "dataset_dict.json", lambda tree: list(tree["splits"]))
        if dataset.split not in splits:
            raise DataError(
                f"{_describe(dataset)}: no such split; splits: {', '.join(splits)}",
                fix="set dataset.split to one of these",
            )
        folder = folder / dataset.split
    if (folder / "state.json").exists():
        names = _described(folder / "state.json", lambda tree: [str(entry["filename"]) for entry in tree["_data_files"]])
        return DatasetFiles("arrow", _local(str(folder / name) for name in names), "a folder written by save_to_disk")
    format_, paths = _data_files(_builder(str(folder), dataset), dataset)
    return DatasetFiles(format_, _local(paths), "a folder of data files")


def _described(path: Path, read: Callable[[Any], list[str]]) -> list[str]:
    """What `read` takes from a JSON that `save_to_disk` wrote."""
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: not what save_to_disk writes: {type(error).__name__}: {error}",
            fix="write the dataset again, or fetch it again",
        ) from None


def _local(paths: Any) -> list[SourceFile]:
    return [file for path in paths for file in list_source_files(glob.escape(path))]


def _cached(dataset: DatasetConfig, reason: str) -> DatasetFiles:
    """The pinned commit in the caches: prepared by `load_dataset`, else fetched by `hf download`."""
    with needed_for("sources[].dataset"):
        import datasets
    from huggingface_hub import constants

    owner, _, name = dataset.name.rpartition("/")
    stem = datasets.naming.camelcase_to_snakecase(name)
    prepared = Path(datasets.config.HF_DATASETS_CACHE) / "___".join(filter(None, [owner, stem]))
    pattern = str(prepared / (dataset.config or "*") / "*" / str(dataset.revision) / f"{stem}-{dataset.split}")
    found = sorted([*glob.glob(f"{pattern}.arrow"), *glob.glob(f"{pattern}-?????-of-?????.arrow")])
    configurations = sorted({Path(path).parents[2].name for path in found})
    if len(configurations) > 1:
        raise DataError(
            f"{_describe(dataset)}: the cache holds more than one configuration: {', '.join(configurations)}",
            fix="set dataset.config to one of these",
        )
    if found:
        return DatasetFiles("arrow", _local(found), f"from the cache, as prepared by load_dataset: {reason}")
    repository = f"datasets--{dataset.name.replace('/', '--')}"
    snapshot = Path(constants.HF_HUB_CACHE) / repository / "snapshots" / str(dataset.revision)
    if snapshot.is_dir():
        format_, paths = _data_files(_builder(str(snapshot), dataset), dataset)
        note = f"from the download cache, {reason}: it cannot be verified that these are all files of the dataset"
        return DatasetFiles(format_, _local(paths), note)
    raise NotReachableError(
        f"{_describe(dataset)}: {reason}; and it is not cached: looked for {pattern}*.arrow and {snapshot}",
        fix=f"with a network: hf download {dataset.name} --repo-type dataset --revision {dataset.revision}"
        " (--include for a part), then copy the cache here (HF_HOME), or set dataset.name to a folder",
    )
