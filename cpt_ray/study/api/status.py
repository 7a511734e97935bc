"""How far a study is, as the command line and `Study.status` say it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.store.addresses import is_remote, private_mirrors
from cpt_ray.records import StudyStatus
from cpt_ray.study.live.status.gather import gather
from cpt_ray.study.live.status.place import Place, is_begun
from cpt_ray.study.live.status.text import render_status
from cpt_ray.study.store import resolve_root


def look(place: Place, *, as_json: bool = False) -> tuple[StudyStatus, str]:
    """A study's status, and how it is said.

    Args:
        place: Where it is.
        as_json: All that is known, instead of lines for people.

    Raises:
        ArtifactError: If a store refuses to say, or a record cannot be read.
    """
    status = gather(place)
    return status, status.to_json() if as_json else render_status(status, plain=not _draws())


@contextlib.contextmanager
def place_of(config: StudyConfig, path: Path) -> Iterator[Place]:
    """Where a study is that was read already, whether or not it began; within, its root can be read.

    Args:
        config: The study, overrides included.
        path: Its file.
    """
    with private_mirrors() if is_remote(config.study.root) else contextlib.nullcontext():
        root = resolve_root(config.study.root, config.runtime.scratch)
        yield Place(root, is_begun(root), path)


def _draws() -> bool:
    """Whether stdout has a character for a bar."""
    try:
        "▁".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
