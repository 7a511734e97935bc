"""Which study a command means that may be typed anywhere: by its root, its study file, or a folder near it.

In: what the user typed. Out: the root, which is only read, and the study file if that was typed. Of a root in a bucket this
process has a mirror of its own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cpt_ray.config.load import load_study
from cpt_ray.config.values import check_root
from cpt_ray.edges.lease import FILE as LEASE_FILE
from cpt_ray.edges.store import address, exists
from cpt_ray.edges.store.addresses import is_remote, private_mirrors
from cpt_ray.errors import ConfigError
from cpt_ray.study.store import STUDY_FILE, resolve_root

_DEPTH = 4
_MOST_FOLDERS = 5000
"""Looked into for a study below a folder that is none."""


class Place(NamedTuple):
    """A study's root, whether any command has worked there, and the study file if it was named, with its overrides."""

    root: Path
    begun: bool
    config: Path | None
    overrides: tuple[str, ...] = ()


@contextlib.contextmanager
def find_study(argument: str, overrides: tuple[str, ...] = ()) -> Iterator[Place]:
    """Find the study that an argument names; within, its root can be read.

    Args:
        argument: A root on a disk or in a bucket, or a study file.
        overrides: Of the study file, `section.key=value`.

    Raises:
        ConfigError: If it is no study; the nearest one is named. If a root is given with overrides.
        ArtifactError: If a store refuses to say.
    """
    with private_mirrors() if _is_in_bucket(argument) else contextlib.nullcontext():
        if names_a_file(argument):
            path = Path(argument).expanduser()
            config = load_study(path, overrides)
            with private_mirrors() if is_remote(config.study.root) else contextlib.nullcontext():
                root = resolve_root(config.study.root, config.runtime.scratch)
                yield Place(root, is_begun(root), path, overrides)
            return
        if overrides:
            raise ConfigError(
                f"{shlex.join(overrides)} overrides a study file, and {argument} is none",
                fix="leave it out, or give the study file",
            )
        yield Place(_root(argument), True, None)


def names_a_file(argument: str) -> bool:
    """Whether an argument is a study file, and not a root."""
    path = Path(argument).expanduser()
    try:
        return path.is_file() or path.suffix in (".yaml", ".yml")
    except OSError as error:  # such as a name that is longer than a disk allows
        raise ConfigError(f"{argument}: {error.strerror}", fix="give a study's root, or its study file") from error


def _is_in_bucket(argument: str) -> bool:
    return is_remote(argument) and not argument.startswith("file:")


def _root(argument: str) -> Path:
    try:
        root = resolve_root(check_root(argument))
    except ValueError as error:
        raise ConfigError(str(error), fix="give the study's root as its study file has it, or the study file") from None
    if is_begun(root):
        return root
    if not is_remote(argument) and not root.exists():
        raise ConfigError(f"there is no file or folder {argument}", fix="give a study's root, or its study file")
    raise ConfigError(f"{address(root)} holds no study: there is no {STUDY_FILE} in it", fix=_where_else(root, argument))


def _where_else(root: Path, argument: str) -> str:
    if is_remote(argument):
        return "give the study.root of a study"
    found = next((folder for folder in (*_above(root), *_below(root)) if _has_study(folder)), None)
    if found is None:
        return "give the study.root of a study, or its study file; there is none above or below this folder"
    return f"give the nearest study: {os.path.relpath(found) if found.is_relative_to(Path.cwd()) else found}"


def is_begun(root: Path) -> bool:
    """Whether a command has worked on the study: it takes the lease, and then writes its configuration."""
    return exists(root / STUDY_FILE) or exists(root / LEASE_FILE)


def _has_study(folder: Path) -> bool:
    return (folder / STUDY_FILE).is_file() and (folder / LEASE_FILE).is_file()


def _above(root: Path) -> Iterator[Path]:
    yield from root.parents


def _below(root: Path) -> Iterator[Path]:
    """Folders below, the nearest first."""
    waiting = deque([(root, 0)])
    for _ in range(_MOST_FOLDERS):
        if not waiting:
            return
        folder, depth = waiting.popleft()
        yield folder
        if depth < _DEPTH:
            with contextlib.suppress(OSError):
                children = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
                waiting.extend((folder / name, depth + 1) for name in children if not name.startswith("."))
