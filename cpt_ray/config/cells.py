"""The cells of a study: its file once for each combination of the values of its axes.

In: a study with `axes`. Out: a study without axes per cell, validated like one from a file. A study without axes is its only
cell. Guarantee: cells differ only in the keys that axes set, and have the same models, sources, classifiers and arms by name.
"""

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cpt_ray.config.load import parse_study, set_key
from cpt_ray.config.study import StudyConfig
from cpt_ray.errors import ConfigError


@dataclass(frozen=True)
class Cell:
    """One combination of the values of all axes."""

    values: tuple[tuple[str, str], ...]
    """Axis and name of its value, in the order of the file; empty for a study without axes."""
    config: StudyConfig

    @property
    def name(self) -> str:
        """`mix-half+factor-0.5`; empty for a study without axes."""
        return cell_name(self.values)


def cell_name(values: Sequence[tuple[str, str]]) -> str:
    """The name of a cell, or of what cells with these values have in common."""
    return "+".join(f"{axis}-{value}" for axis, value in values)


def study_cells(config: StudyConfig) -> tuple[Cell, ...]:
    """Multiply the axes of a study out; the last axis varies fastest.

    Raises:
        ConfigError: If there are more cells than `study.max_cells`, an axis sets a key that does not exist or a name, or a cell
            is not a valid study.
    """
    if not config.axes:
        return (Cell((), config),)
    count = math.prod(len(axis.values) for axis in config.axes.values())
    if count > config.study.max_cells:
        sizes = " x ".join(f"{len(axis.values)} of {name}" for name, axis in config.axes.items())
        raise ConfigError(
            f"the axes make {count:,} cells ({sizes}), but study.max_cells is {config.study.max_cells:,}",
            fix=f"remove values, or set study.max_cells to {count}",
        )
    # What the user wrote, without defaults: a default may depend on another key.
    tree = config.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"axes"})
    choices = [[(name, value) for value in axis.values] for name, axis in config.axes.items()]
    changes = {name: axis.changes() for name, axis in config.axes.items()}
    cells = []
    for values in itertools.product(*choices):
        own, place = copy.deepcopy(tree), f"cell {cell_name(values)}"
        for axis, value in values:
            for key, setting in changes[axis][value].items():
                set_key(own, key, setting, said=f"axes.{axis}: key {key}")
        cell = Cell(values, parse_study(own, place=place))
        _require_same_names(config, cell)
        cells.append(cell)
    return tuple(cells)


def choose_cells(cells: Sequence[Cell], only: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[Cell, ...]:
    """The cells whose names match one of `only`, if it has any, and none of `exclude`, in their order.

    Args:
        cells: All cells.
        only: Patterns as of a shell, with `*` and `?`.
        exclude: Patterns likewise.

    Raises:
        ConfigError: If a pattern matches no cell, or no cell is left.
    """
    names = [cell.name for cell in cells]
    for pattern in (*only, *exclude):
        if names == [""]:
            raise ConfigError(f"{pattern!r} chooses cells, but the study has no axes", fix="leave --only and --exclude out")
        if not any(fnmatchcase(name, pattern) for name in names):
            few = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise ConfigError(f"{pattern!r} matches no cell", fix=f"the cells are {few}; quote patterns")
    chosen = tuple(
        cell
        for cell, name in zip(cells, names, strict=True)
        if (not only or any(fnmatchcase(name, pattern) for pattern in only))
        and not any(fnmatchcase(name, pattern) for pattern in exclude)
    )
    if not chosen:
        raise ConfigError("--only and --exclude leave no cell", fix="widen --only, or narrow --exclude")
    return chosen


def _require_same_names(config: StudyConfig, cell: Cell) -> None:
    for section in ("models", "sources", "classifiers"):
        here, there = ([one.name for one in getattr(study, section)] for study in (config, cell.config))
        _require_same(section, cell, here, there)
    _require_same("arms", cell, list(config.arms), list(cell.config.arms))


def _require_same(section: str, cell: Cell, here: list[str], there: list[str]) -> None:
    if sorted(here) != sorted(there):
        raise ConfigError(
            f"cell {cell.name} has {section} {', '.join(there)}, the study {', '.join(here)}: an axis can not change names",
            fix=f"list all {section} in the study, and sweep keys inside of them",
        )
