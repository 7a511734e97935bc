"""More budgets for a study that was run: which they are, what they reuse, and the line of the study file that names them.

In: a study and `+400M`. Out: the study with the new budgets, and the same study file with one line changed. Guarantee: the file
is written only if reading it back gives exactly that study; comments and everything else in it stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cpt_ray.config.load import load_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.config.values import format_count, parse_count
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError, CptRayError
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.live.continued import find_continued
from cpt_ray.study.stages.train import TRAIN

_UNITS = {"T": 10**12, "B": 10**9, "M": 10**6, "k": 10**3}


def more_budgets(config: StudyConfig, asked: str) -> tuple[int, ...]:
    """All budgets of the extended study.

    Args:
        config: The study.
        asked: Separated by commas; `+400M` is that many tokens beyond the largest before it.

    Raises:
        ConfigError: If the study has no budgets in tokens, or one is not larger than all before it.
    """
    if config.train.budgets is None:
        raise ConfigError(
            "the budgets of this study are in FLOPs (train.budgets_flops)",
            fix="add the larger one to train.budgets_flops in the study file, and re-run cpt-ray run",
        )
    if named := [name for name, axis in config.axes.items() if "budgets" in str(axis.model_dump())]:
        raise ConfigError(
            f"axes.{named[0]} sets the budgets of this study's cells, not train.budgets",
            fix=f"add the larger budget to the values of axes.{named[0]}, and re-run cpt-ray run",
        )
    budgets = list(config.train.budgets)
    for part in asked.split(","):
        text = part.strip()
        try:
            tokens = parse_count(text.removeprefix("+")) + (budgets[-1] if text.startswith("+") else 0)
        except ValueError as error:
            raise ConfigError(f"--budgets {asked}: {error}", fix="e.g. --budgets +400M, or --budgets 800M") from None
        if tokens in budgets:
            raise ConfigError(
                f"--budgets {text}: the study has the budget {exact_count(tokens)}",
                fix=f"give more than {exact_count(budgets[-1])}, e.g. --budgets +{exact_count(budgets[-1])}",
            )
        if tokens < budgets[-1]:
            raise ConfigError(
                f"--budgets {text} is {exact_count(tokens)} tokens, below the largest budget, {exact_count(budgets[-1])}",
                fix=f"give more than that, e.g. --budgets +{exact_count(budgets[-1])}; a budget in between goes into "
                "train.budgets of the study file, and the trunk is trained again from the last branch point before it",
            )
        budgets.append(tokens)
    return tuple(budgets)


def exact_count(tokens: int) -> str:
    """A count that reads back as the same number: `400M`, `24k`, 2001."""
    return next((f"{tokens // size}{unit}" for unit, size in _UNITS.items() if tokens % size == 0), str(tokens))


def reused_and_new(graph: StudyGraph, budgets_before: int) -> Iterator[str]:
    """A line per run of the extended study: what is there, what goes on from a checkpoint, and what begins anew; then the sum.

    Args:
        graph: The extended study.
        budgets_before: Number of budgets before.
    """
    if budgets_before == 1:
        yield "the study had one budget, and so no trunk that could go on: its arms are trained again from the base"
    going_on = {one.node: one for one in find_continued(graph)}
    paid = 0
    for node in graph.of(TRAIN):
        spec, begins = node.work.spec, node.work.spec.start_tokens
        if store.exists(node) or (node in going_on and going_on[node].is_whole):
            yield f"  reused  {node.name}"
            continue
        if node in going_on:
            begins = going_on[node].tokens
        new = format_count(spec.stop_tokens - begins)
        if node in going_on:
            yield f"  extended  {node.name}: {format_count(begins)} tokens are there, {new} are new"
        elif spec.parent is not None:
            yield f"  new  {node.name}: {new} tokens, from {spec.parent} at {format_count(begins)}"
        else:
            yield f"  new  {node.name}: {new} tokens, from the base"
        paid += spec.stop_tokens - begins
    yield f"to train: {format_count(paid)} tokens"


def write_budgets(path: Path, budgets: tuple[int, ...], overrides: tuple[str, ...]) -> bool:
    """Add the last budgets to `train.budgets` in a study file.

    Args:
        path: The file.
        budgets: All budgets; the file has the first of them.
        overrides: Of the command: with them the file must read as the extended study.

    Returns:
        Whether it was written; if the file is shaped so that this is not safe, it is left alone.
    """
    try:
        text = path.read_text(encoding="utf-8")
        there, wanted = load_study(path), load_study(path, (f"train.budgets={list(budgets)}",))
        edited = _edited(text, budgets[len(there.train.budgets or ()) :])
        if edited is None or (there.train.budgets or ()) != budgets[: len(there.train.budgets or ())]:
            return False
        if any(override.startswith("train.budgets") for override in overrides) or not _reads_as(edited, path, wanted):
            return False
        write_atomic(path.resolve(), edited)
    except (OSError, CptRayError):
        return False
    return True


def _edited(text: str, more: tuple[int, ...]) -> str | None:
    """The text with more entries at the end of `train.budgets`; None if that is not a list there."""
    budgets = _entry(_entry(yaml.compose(text, Loader=yaml.SafeLoader), "train"), "budgets")
    if not isinstance(budgets, yaml.SequenceNode) or not budgets.value:
        return None
    last = budgets.value[-1]
    written = [exact_count(one) for one in more]
    end = last.end_mark.index
    if budgets.flow_style:
        return text[:end] + "".join(f", {one}" for one in written) + text[end:]
    # Behind the comment of the last entry.
    newline = text.find("\n", end)
    place = len(text) if newline < 0 else newline
    indent = " " * budgets.start_mark.column
    return text[:place] + "".join(f"\n{indent}- {one}" for one in written) + text[place:]


def _entry(node: Any, key: str) -> Any:
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in entries if name.value == key), None)


def _reads_as(text: str, path: Path, wanted: StudyConfig) -> bool:
    beside = path.with_name(f".{path.name}.extended.tmp")
    beside.write_text(text, encoding="utf-8")
    try:
        return load_study(beside) == wanted
    finally:
        beside.unlink()
