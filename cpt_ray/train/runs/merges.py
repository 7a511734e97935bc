"""Which models a study makes without training, and what its runs must keep for them.

In: the `merges` section and the planned runs. Out: `Merge` records, and the marks in a cooldown at which weights are kept for
an average. Guarantee: pure; a merge changes no step of a run, and a run without marks is what it is without `merges`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from cpt_ray.config.sections.models.merges import AverageConfig, MergeConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.errors import ConfigError
from cpt_ray.records import Merge, RunSpec


class PlannedMerge(NamedTuple):
    """A merge, the run it begins with, and the entry that asks for it."""

    merge: Merge
    spec: RunSpec
    config: MergeConfig


def plan_merges(config: StudyConfig, specs: Sequence[RunSpec]) -> list[PlannedMerge]:
    """All merges of a study, in the order of its entries and runs.

    Raises:
        ConfigError: If an entry applies to no budget, a cooldown is too short for an average, or two models have one name.
    """
    planned = [
        PlannedMerge(merge, spec, entry)
        for entry in config.merges
        for spec in _chosen(entry, specs, _domain_arms(config))
        for merge in _merges(entry, spec)
    ]
    names = [one.merge.run for one in planned]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"merges: two models would be named {twice}", fix="rename one of the entries of merges")
    return planned


def with_average_marks(config: StudyConfig, specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The runs, with the marks at which they keep weights for the averages that are made of them.

    Raises:
        ConfigError: As `plan_merges`.
    """
    marks: dict[str, set[int]] = {}
    for one in plan_merges(config, specs):
        marks.setdefault(one.spec.name, set()).update(one.merge.marks)
    return [
        spec.model_copy(update={"average_tokens": tuple(sorted(marks[spec.name]))}) if marks.get(spec.name) else spec
        for spec in specs
    ]


def average_marks(name: str, average: AverageConfig, spec: RunSpec) -> tuple[int, ...]:
    """Where the models stand that are averaged with a run's export, in tokens spent, ascending.

    Raises:
        ConfigError: If some would stand before the cooldown.
    """
    start, stop = spec.schedule.decay_start_tokens, spec.stop_tokens
    cooldown = stop - (stop if start is None else start)
    every = average.every if average.every is not None else max(1, cooldown // 10)
    most = (cooldown - 1) // every + 1
    if average.last > most:
        raise ConfigError(
            f"merges.{name}.average.last is {average.last}, but {spec.name} cools down over {cooldown} tokens, where only "
            f"{most} models are {every} tokens apart",
            fix=f"set merges.{name}.average.last to at most {most}, or merges.{name}.average.every to at most "
            f"{max(1, (cooldown - 1) // (average.last - 1))}",
        )
    return tuple(stop - every * number for number in range(average.last - 1, 0, -1))


def _merges(entry: MergeConfig, spec: RunSpec) -> list[Merge]:
    common = {"name": entry.name, "rule": entry.rule, "made_of": spec.name}
    if entry.interpolate is not None:
        kinds: list[dict[str, object]] = [{"weight": weight} for weight in entry.interpolate.weights]
    elif entry.average is not None:
        kinds = [{"marks": average_marks(entry.name, entry.average, spec)}]
    else:
        kinds = [{"scale": entry.instruction_residual.scale if entry.instruction_residual else None}]
    unnamed = [Merge.model_validate({**common, **kind, "run": ""}) for kind in kinds]
    return [one.model_copy(update={"run": f"{_cell(spec)}{one.suffix}-seed{spec.seed}"}) for one in unnamed]


def _chosen(entry: MergeConfig, specs: Sequence[RunSpec], domain_arms: Collection[str]) -> list[RunSpec]:
    budgets = [spec for spec in specs if spec.budget_tokens is not None]
    if not entry.of:
        own = [spec for spec in budgets if spec.arm in domain_arms]
        grouped = itertools.groupby(sorted(own, key=_group), key=_group)
        largest = {group: max(spec.budget_tokens or 0 for spec in of_group) for group, of_group in grouped}
        chosen = [spec for spec in own if spec.budget_tokens == largest[_group(spec)]]
        if not chosen:
            raise ConfigError(
                f"merges.{entry.name} is made of the largest budget of each domain arm, but no arm has role domain",
                fix=f"set merges.{entry.name}.of to patterns of the budgets: {_listed(budgets)}",
            )
        return chosen
    for pattern in entry.of:
        if not any(fnmatchcase(_cell(spec), pattern) for spec in budgets):
            raise ConfigError(
                f"merges.{entry.name}.of: {pattern!r} matches no budget",
                fix=f"the budgets of this study are {_listed(budgets)}",
            )
    return [spec for spec in budgets if any(fnmatchcase(_cell(spec), pattern) for pattern in entry.of)]


def _domain_arms(config: StudyConfig) -> frozenset[str]:
    return frozenset(name for name, arm in config.arms.items() if arm.role == "domain")


def _group(spec: RunSpec) -> tuple[str, str, int]:
    return spec.model, spec.arm, spec.seed


def _cell(spec: RunSpec) -> str:
    return f"{spec.model}-{spec.arm}-{spec.budget_tokens}"


def _listed(specs: Sequence[RunSpec]) -> str:
    return ", ".join(dict.fromkeys(map(_cell, specs)))
