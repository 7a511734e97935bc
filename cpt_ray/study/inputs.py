"""Fingerprints of a study's external inputs: base models, sources, exams.

A base is identified by the content of its files; the hash of a file is read from a list as long as size, times and inode are
those of the file that was hashed. The large files of sources are identified by name and size, so that planning reads no text;
preparation pins its input by hash.

Guarantee: a fingerprint does not depend on the folder that holds the files.

A study's root keeps what was found (`KnownInputs`), by what the study file says of an input, without secrets, as the study
file in the root has it.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.packages import resolve_package
from cpt_ray.edges.redaction import redact, redact_uris
from cpt_ray.edges.source_files import SourceFile, list_source_files
from cpt_ray.edges.source_files.hub import resolve_dataset
from cpt_ray.edges.storage import FileHashes
from cpt_ray.edges.store import fresh
from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.files import TOKENIZER_FILES, BaseFiles, tokenizer_files
from cpt_ray.records import KnownInputs
from cpt_ray.study.store import fingerprint


def known_name(key: str) -> str:
    """The name of an input in `KnownInputs`: the same for a study file and for its copy without secrets.

    Args:
        key: A word, and the input as the study file has it: a text, or JSON.
    """
    kind, _, said = key.partition(" ")
    with contextlib.suppress(ValueError):
        return fingerprint([kind, redact(json.loads(said))])
    return fingerprint([kind, redact(said)])


def read_known(root: Path) -> dict[str, str | None]:
    """What a root says of the files that were outside of it; empty if it says nothing."""
    path = fresh(root / KnownInputs.FILE)
    try:
        return KnownInputs.load(path).found if path.is_file() else {}
    except ValueError:  # damaged, or of a newer cpt-ray: the files are looked up
        return {}


def base_files(model: ModelConfig) -> tuple[Path, ...]:
    """The files that an import of a base reads: none for a model of the hub, and for one from random weights."""
    if model.is_new:
        return ()
    path = Path(resolve_package(model.base)).expanduser()
    if path.is_dir():
        try:
            return BaseFiles(path, f"models.{model.name}.base").read
        except ConfigError:  # a folder without weights is refused by its proof, which says what it is
            return tuple(tokenizer_files(path))
    return (path,) if path.is_file() else ()


def base_fingerprint(model: ModelConfig, hashes: FileHashes) -> str:
    """Content of a base's files; name and revision of a hub model; configuration and seed of random weights."""
    if model.is_new:
        return fingerprint({"init": model.config, "seed": model.init_seed})
    files = base_files(model)
    if files:
        return fingerprint([(path.name if len(files) > 1 else "", hashes.of(path)) for path in files])
    return fingerprint({"hub": model.base, "revision": model.revision})


def tokenizer_fingerprint(model: ModelConfig, hashes: FileHashes) -> str | None:
    """Content of a tokenizer's folder; name and revision of one on the hub; None if it is the base's own."""
    if model.tokenizer is None:
        return None
    path = Path(resolve_package(model.tokenizer)).expanduser()
    if path.is_dir():
        return fingerprint([(item.name, hashes.of(item)) for item in tokenizer_files(path)])
    return fingerprint({"hub": model.tokenizer, "revision": model.revision})


def packing_fingerprint(model: ModelConfig, hashes: FileHashes) -> str | None:
    """What of a base decides how text becomes rows: the content of its tokenizer, its kind and the size of its vocabulary.

    Returns:
        None if that is only known of the imported base: of the hub, in a GGUF file, with new tokens or with code of its own.
    """
    if model.new_tokens:
        return None
    folder, own = Path(resolve_package(model.base)).expanduser(), tokenizer_fingerprint(model, hashes)
    if model.is_new:
        return own
    if not (folder / "config.json").is_file():
        return None
    try:
        config = BaseFiles(folder, f"models.{model.name}.base").config
    except ConfigError:  # refused by its proof, which says more
        return None
    read = tokenizer_files(folder)
    if any(path.suffix == ".py" for path in read):
        return None
    files = [path for path in read if path.name.startswith(TOKENIZER_FILES)]
    tokenizer = own or [(path.name, hashes.of(path)) for path in files]
    return fingerprint([tokenizer, *(config.get(key) for key in ("model_type", "vocab_size"))])


def source_fingerprint(source: SourceConfig) -> str:
    """Names and sizes of a source's files; a hub dataset is identified by its commit, so that no network is needed."""
    if source.dataset is not None and source.dataset.revision is not None:
        return fingerprint({"hub": source.dataset.model_dump(mode="json")})
    if source.dataset is not None:
        return _names_and_sizes(resolve_dataset(source.dataset).files)
    return fingerprint([listing(path) for path in source.path])


def listing(uri: str) -> str:
    """Names and sizes of the files that match a glob."""
    return _names_and_sizes(list_source_files(uri))


def _names_and_sizes(files: list[SourceFile]) -> str:
    """Relative to the folder that holds the files; a new signature of the same URL is the same file."""
    heads = [redact_uris(file.path.split("::")[0]) for file in files]
    common = len(heads[0].rsplit("/", 1)[0]) if len(heads) == 1 else len(_common_folder(heads))
    return fingerprint(json.dumps([(head[common:], file.size_bytes) for head, file in zip(heads, files, strict=True)]))


def _common_folder(paths: list[str]) -> str:
    first, last = min(paths), max(paths)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length].rsplit("/", 1)[0]
