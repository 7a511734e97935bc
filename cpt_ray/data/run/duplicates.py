"""Find the duplicates among all clean units: run the tasks in order and describe the components.

Flow: between stages `clean` and `near_duplicates`; `pipeline` provides the function that runs a stage. Keys -> pairs -> links,
in as many steps as the components need -> roots -> verdicts. Memory on the driver: file names; nothing per document.

Guarantee: of each component the first document is kept, in this order: sources with the role `domain`, then `general`, then
`probe`, each in the order of the study file; within a source, the order of its files and of the documents in them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.dedup.components import size_class
from cpt_ray.data.run import duplicate_tasks
from cpt_ray.data.run.document_tasks import REFERENCE_BITS, CleanUnit
from cpt_ray.data.run.duplicate_tasks import LinkUnit, PairUnit, RootUnit, VerdictUnit
from cpt_ray.data.run.reports import UnitReports
from cpt_ray.data.run.units import UnitContext, keep_bytes
from cpt_ray.edges import storage, store
from cpt_ray.records import DocumentKey, DuplicateComponents, LargeComponent

RunStage: TypeAlias = Callable[..., UnitReports]
"""Called with a stage's name, its function and its tasks."""

PAIRS_PER_TASK = 4_000_000
"""Maximum number of pairs that one process links: about 200 MB while they are sorted."""
_LARGEST = 3
_PRIORITY = ("domain", "general", "probe", "seed")
_SCRATCH = ("raw", "keys", "ids", "sketches", "pairs", "repeats", "links", "roots", "merged")


def order_of_priority(sources: Sequence[SourceConfig]) -> list[str]:
    """Names of the sources by priority: of two duplicates, the one whose source comes first is kept."""
    # A probe loses what training text holds too; no arm loses text to a probe here.
    return [source.name for source in sorted(sources, key=lambda source: _PRIORITY.index(source.role))]


def find_duplicates(
    stage: RunStage, context: UnitContext, cleans: Sequence[CleanUnit], cleaned: UnitReports
) -> tuple[UnitReports, UnitReports, DuplicateComponents]:
    """Run the stages that decide which clean documents are duplicates.

    Args:
        stage: Runs a stage.
        context: The artifact's folder and the settings.
        cleans: All clean units.
        cleaned: Their reports.

    Returns:
        The reports of the comparison tasks, those of the verdict tasks in the order of `cleans`, and the components.
    """
    listing = functools.partial(_listing, context.root)
    by_number = np.argsort([task.number for task in cleans])
    partitions = cleans[0].partitions
    lists = {name: cleaned.paths(name) for name in ("keys", "ids", "sketches")}
    inputs = {
        "partitions": partitions,
        **{name: listing(paths[place] for place in by_number) for name, paths in lists.items()},
    }
    pairs = stage(
        "duplicate_pairs",
        duplicate_tasks.pair_unit,
        [PairUnit(unit=f"pairs-{number:05d}", source="", partition=number, **inputs) for number in range(partitions)],
    )
    roots = _roots(stage, listing, pairs, partitions, units=len(cleans))
    largest = _largest(context.root, roots)
    shown = [reference for entry in largest for reference in (entry["root"], *entry["members"])]
    quoted: dict[int, list[int]] = {}
    for reference in sorted(shown):
        quoted.setdefault(reference >> REFERENCE_BITS, []).append(reference & ((1 << REFERENCE_BITS) - 1))
    files = {"roots": listing(roots.paths("roots")), "repeats": listing(pairs.paths("repeats"))}
    verdicts = [
        VerdictUnit(
            unit=task.unit,
            source=task.source,
            number=task.number,
            clean=clean,
            show=tuple(quoted.get(task.number, ())),
            **files,
        )
        for task, clean in zip(cleans, cleaned.paths("clean"), strict=True)
    ]
    decided = stage("near_duplicates", duplicate_tasks.verdict_unit, verdicts)
    return pairs, decided, _describe(pairs, roots, largest, decided)


def _roots(
    stage: RunStage, listing: Callable[[Iterable[str]], str], pairs: UnitReports, partitions: int, units: int
) -> UnitReports:
    """Solve in one task if it can hold the pairs; else step until a large-star step repeats the result of the previous one."""
    if pairs.total("pairs") <= PAIRS_PER_TASK:
        return stage(
            "components",
            duplicate_tasks.root_unit,
            [RootUnit(unit="roots", source="", partition=None, pairs=listing(pairs.paths("pairs")), units=units)],
        )
    left, before, step = pairs.paths("pairs"), None, 0
    while True:
        name = f"large_star_{step:02d}"
        large = stage(name, duplicate_tasks.link_unit, _link_tasks("large_star", name, listing(left), partitions))
        found = sum(large.counts("checksum").tolist()) % 2**62
        # Links no longer change exactly when the checksum repeats (up to 62-bit collisions); comparing pairs would gather them.
        if found == before:
            break
        name = f"small_star_{step:02d}"
        small = _link_tasks("small_star", name, listing(large.paths("pairs")), partitions)
        left = stage(name, duplicate_tasks.link_unit, small).paths("pairs")
        before, step = found, step + 1
    roots = [
        RootUnit(unit=f"roots-{number:05d}", source="", partition=number, pairs=listing(left), units=units)
        for number in range(partitions)
    ]
    return stage("components", duplicate_tasks.root_unit, roots)


def _link_tasks(step: Any, name: str, pairs: str, partitions: int) -> list[LinkUnit]:
    return [
        LinkUnit(unit=f"{name}-{number:05d}", source="", step=step, partition=number, partitions=partitions, pairs=pairs)
        for number in range(partitions)
    ]


def _listing(root: Path, paths: Iterable[str]) -> str:
    """Write paths to a file for tasks that read all of them, so that tasks stay small."""
    return keep_bytes(root, "lists/files", ".json", json.dumps(list(paths)).encode()).path


def _largest(root: Path, roots: UnitReports) -> list[dict[str, Any]]:
    found = [entry for path in roots.paths("largest") for entry in json.loads(store.fetched(root / path).read_bytes())]
    return sorted(found, key=lambda entry: (-entry["documents"], entry["root"]))[:_LARGEST]


def _describe(
    pairs: UnitReports, roots: UnitReports, largest: Sequence[dict[str, Any]], decided: UnitReports
) -> DuplicateComponents:
    quotes = {one.reference: one for one in decided.shown}
    sizes: dict[str, int] = {}
    for upper in (1 << power for power in range(1, 64)):
        count = roots.component_sizes[size_class(upper)]
        if count:
            sizes[size_class(upper)] = count
    return DuplicateComponents(
        pairs_compared=pairs.total("compared"),
        documents_left=pairs.total("left"),
        sizes=sizes,
        largest=tuple(
            LargeComponent(
                documents=entry["documents"],
                members=tuple(
                    DocumentKey(quotes[member].identity, quotes[member].id) for member in (entry["root"], *entry["members"])
                ),
                texts=tuple(quotes[member].text for member in (entry["root"], *entry["members"])),
            )
            for entry in largest
        ),
    )


def remove_scratch(root: Path) -> None:
    """Remove raw text and exchanged keys, which are no longer read once every unit has its verdicts.

    An attempt that is killed here starts again from the sources: the artifact is committed after this.
    """
    for name in _SCRATCH:
        storage.remove_tree(root / name)
