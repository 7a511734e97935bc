"""What names a study: overrides as text, and the root of one that was run before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt_ray.config.values import check_root
from cpt_ray.edges.store import address, fresh
from cpt_ray.errors import ConfigError
from cpt_ray.study import store


def as_text(overrides: Sequence[str | Mapping[str, Any]]) -> tuple[str, ...]:
    """Overrides as `section.key=value`; JSON is YAML, so a string stays a string."""
    found: list[str] = []
    for one in overrides:
        found += [one] if isinstance(one, str) else [f"{key}={json.dumps(value, default=str)}" for key, value in one.items()]
    return tuple(found)


def find_root(root: str | Path) -> tuple[Path, Path]:
    """Where the root of a study that was run is on this machine, and the study file that it keeps.

    Raises:
        ConfigError: If there is no study, or it was written by a newer cpt-ray.
    """
    try:
        place = store.resolve_root(check_root(str(root)))
    except ValueError as error:
        raise ConfigError(str(error), fix="give the study's root as its study file has it") from None
    path = fresh(place / store.STUDY_FILE)
    if not path.is_file():
        raise ConfigError(
            f"{address(place)} holds no study: there is no {store.STUDY_FILE}",
            fix="give the study.root of a study that was run, or its study file",
        )
    store.require_known_format(place)
    return place, path
