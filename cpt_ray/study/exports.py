"""A stable path for the export of each budget and merge: `<root>/exports/RUN` links to the export of the run as it is now.

An artifact's folder has its fingerprint in its name, so another study could not name it; the link it can. The files behind it
are hashed like those of any base, so a base that is trained again changes what depends on it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from cpt_ray.edges.storage import unwritable
from cpt_ray.study.grid import Member
from cpt_ray.train.task import EXPORT

FOLDER = "exports"


def link_exports(root: Path, runs: Iterable[Member]) -> None:
    """Link every export that is there, in place of an older link of that name.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    for run in runs:
        export, link = run.node.folder / EXPORT, root / FOLDER / run.name
        target = os.path.relpath(export, link.parent)
        if not export.is_dir() or (link.is_symlink() and os.readlink(link) == target):
            continue
        temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}.tmp")
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            temporary.symlink_to(target, target_is_directory=True)
            os.replace(temporary, link)  # a reader sees the old export or the new one
        except OSError as error:
            raise unwritable(link, error) from error
