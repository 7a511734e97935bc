"""The bundle's list of its own files: what a host checks before it trusts one.

In: a folder. Out: `bundle.json` with the size and sha256 of every file in it, and of the code that it was made for.
Guarantee: a host with a file missing, damaged or made for other code refuses, and names it.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "gpu-bundle"
LIST = "bundle.json"
PART_BYTES = 55_000_000
"""Largest file of a bundle: what one transfer to a host may carry."""
CODE = ("cpt_ray", "benchmarks/gpu", "ds_configs")


class BundleError(Exception):
    """A bundle that is incomplete, damaged or made for other code."""


@dataclass(frozen=True)
class Found:
    """A bundle that its list describes.

    Attributes:
        base: Whether all parts of the base model are there; without them the study is skipped, and speed is measured all the
            same.
        tiny: Made for a rehearsal on a CPU.
        commit: Commit of the code.
    """

    base: bool
    tiny: bool
    commit: str


def code_hash(repository: Path = REPOSITORY) -> str:
    """A hash of the names and bytes of the code that a bundle is for; needs no git."""
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((repository / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(repository)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def write_list(folder: Path, *, commit: str, tiny: bool, repository: Path = REPOSITORY) -> dict[str, Any]:
    """Describe every file of a folder in `bundle.json`.

    Raises:
        BundleError: If a file is larger than one transfer may carry.
    """
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != LIST}
    if large := [name for name, path in files.items() if path.stat().st_size > PART_BYTES]:
        raise BundleError(f"larger than {PART_BYTES / 1e6:.0f} MB: {', '.join(large)}; split it, or pack less text")
    tree = {
        "commit": commit,
        "code": code_hash(repository),
        "tiny": tiny,
        "files": {name: {"bytes": path.stat().st_size, "sha256": _hash(path)} for name, path in files.items()},
    }
    (folder / LIST).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    return tree


def check(folder: Path, *, repository: Path = REPOSITORY) -> Found:
    """Check a bundle against its list.

    Raises:
        BundleError: With every file that is missing or damaged, or if the code is not the one that the bundle was made for.
    """
    path = folder / LIST
    if not path.is_file():
        raise BundleError(f"{path} is missing: make the bundle with `make gpu-bundle`, and carry the whole folder")
    tree = json.loads(path.read_text(encoding="utf-8"))
    if tree["code"] != code_hash(repository):
        raise BundleError(f"the bundle was made for other code (commit {tree['commit']}): run `make gpu-bundle` again")
    absent = [name for name in tree["files"] if not (folder / name).is_file()]
    damaged = [name for name, file in tree["files"].items() if name not in absent and _hash(folder / name) != file["sha256"]]
    base = [name for name in absent if name.startswith("base/")]
    if damaged or len(base) < len(absent):
        wrong = [f"{name} (damaged)" for name in damaged] + [f"{name} (missing)" for name in absent if name not in base]
        raise BundleError(f"{', '.join(wrong)}: carry these again, or run `make gpu-bundle` again")
    return Found(base=not base, tiny=tree["tiny"], commit=tree["commit"])


def split(base: Path, folder: Path) -> None:
    """Write a base model, a file or a folder, as parts of a tar file that one transfer each may carry."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        archive.add(base, arcname=base.name)
    write_parts(whole.getvalue(), folder)


def write_parts(data: bytes, folder: Path) -> None:
    """Write data as parts that one transfer each may carry."""
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, len(data), PART_BYTES)):
        (folder / f"part-{number:02d}").write_bytes(data[start : start + PART_BYTES])


def _joined(folder: Path) -> bytes:
    return b"".join(part.read_bytes() for part in sorted(folder.glob("part-*")))


def join(folder: Path, target: Path) -> None:
    """Unpack the base model whose parts are in `folder` into `target`."""
    with tarfile.open(fileobj=io.BytesIO(_joined(folder))) as archive:
        archive.extractall(target, filter="data")


def unpack_root(folder: Path, target: Path) -> None:
    """Unpack the prepared study."""
    import pyarrow as pa  # the host's; checking a bundle needs only Python

    whole = pa.BufferReader(_joined(folder / "root"))
    with pa.CompressedInputStream(whole, "zstd") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        archive.extractall(target, filter="data")


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main() -> None:
    """`check FOLDER`, `join FOLDER TARGET`, `unpack FOLDER TARGET`; each checks first and prints what there is, for a shell."""
    command, folder = sys.argv[1], Path(sys.argv[2])
    try:
        found = check(folder)
    except BundleError as error:
        sys.exit(f"{folder}: {error}")
    if command == "join" and found.base:
        join(folder / "base", Path(sys.argv[3]))
    if command == "unpack":
        unpack_root(folder, Path(sys.argv[3]))
    print(f"BASE={int(found.base)} TINY={int(found.tiny)} COMMIT={found.commit}")


if __name__ == "__main__":
    main()
