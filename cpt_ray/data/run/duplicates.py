"""Find the duplicates among all clean units: run the tasks in order and describe the components.

Flow: between stages `clean` and `near_duplicates`; `pipeline` provides the function that runs a stage. Keys -> pairs -> links,
in as many steps as the components need -> roots -> verdicts. Memory on the driver: file names and task reports; nothing per
document.

Guarantee: of each component the first document is kept, in this order: sources with the role `domain`, then `general`, then
`probe`, each in the order of the study file; within a source, the order of its files and of the documents in them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.dedup.components import size_class
from cpt_ray.data.run import duplicate_tasks
from cpt_ray.data.run.document_tasks import REFERENCE_BITS, CleanUnit
from cpt_ray.data.run.duplicate_tasks import LinkUnit, PairUnit, RootUnit, VerdictUnit
from cpt_ray.data.run.units import UnitContext, keep_bytes
from cpt_ray.edges import storage, store
from cpt_ray.records import DocumentKey, DuplicateComponents, LargeComponent, UnitReport

RunStage: TypeAlias = Callable[..., list[UnitReport]]
"""Called with a stage's name, its function and its tasks."""

PAIRS_PER_TASK = 4_000_000
"""Maximum number of pairs that one process links: about 200 MB while they are sorted."""
_LARGEST = 3
_PRIORITY = ("domain", "general", "probe", "seed")
_SCRATCH = ("raw", "keys", "ids", "sketches", "pairs", "repeats", "links", "roots")


def order_of_priority(sources: Sequence[SourceConfig]) -> list[str]:
    """Names of the sources by priority: of two duplicates, the one whose source comes first is kept."""
    # A probe loses what training text holds too; no arm loses text to a probe here.
    return [source.name for source in sorted(sources, key=lambda source: _PRIORITY.index(source.role))]


def find_duplicates(
    stage: RunStage, context: UnitContext, cleans: Sequence[CleanUnit], cleaned: Sequence[UnitReport]
) -> tuple[list[UnitReport], list[UnitReport], DuplicateComponents]:
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
    by_number = [report for _, report in sorted(zip(cleans, cleaned, strict=True), key=lambda entry: entry[0].number)]
    partitions = cleans[0].partitions
    inputs = {"partitions": partitions, **{name: listing(by_number, name) for name in ("keys", "ids", "sketches")}}
    pairs = stage(
        "duplicate_pairs",
        duplicate_tasks.pair_unit,
        [PairUnit(unit=f"pairs-{number:05d}", source="", partition=number, **inputs) for number in range(partitions)],
    )
    roots = _roots(stage, listing, pairs, partitions, units=len(cleans))
    largest = _largest(context.root, roots)
    shown = [reference for entry in largest for reference in (entry["root"], *entry["members"])]
    files = {"roots": listing(roots, "roots"), "repeats": listing(pairs, "repeats")}
    verdicts = [
        VerdictUnit(
            unit=task.unit,
            source=task.source,
            number=task.number,
            clean=report.path("clean"),
            show=tuple(sorted(r & ((1 << REFERENCE_BITS) - 1) for r in shown if r >> REFERENCE_BITS == task.number)),
            **files,
        )
        for task, report in zip(cleans, cleaned, strict=True)
    ]
    decided = stage("near_duplicates", duplicate_tasks.verdict_unit, verdicts)
    return pairs, decided, _describe(pairs, roots, largest, decided)


def _roots(
    stage: RunStage, listing: Callable[[Sequence[UnitReport], str], str], pairs: list[UnitReport], partitions: int, units: int
) -> list[UnitReport]:
    """Solve in one task if it can hold the pairs; else step until a large-star step repeats the result of the previous one."""
    if sum(report.counts["pairs"] for report in pairs) <= PAIRS_PER_TASK:
        return stage(
            "components",
            duplicate_tasks.root_unit,
            [RootUnit(unit="roots", source="", partition=None, pairs=listing(pairs, "pairs"), units=units)],
        )
    links, before, step = pairs, None, 0
    while True:
        name = f"large_star_{step:02d}"
        large = stage(name, duplicate_tasks.link_unit, _link_tasks("large_star", name, listing(links, "pairs"), partitions))
        found = sum(report.counts["checksum"] for report in large) % 2**62
        # Links no longer change exactly when the checksum repeats (up to 62-bit collisions); comparing pairs would gather them.
        if found == before:
            break
        name = f"small_star_{step:02d}"
        links = stage(name, duplicate_tasks.link_unit, _link_tasks("small_star", name, listing(large, "pairs"), partitions))
        before, step = found, step + 1
    tasks = [
        RootUnit(unit=f"roots-{number:05d}", source="", partition=number, pairs=listing(links, "pairs"), units=units)
        for number in range(partitions)
    ]
    return stage("components", duplicate_tasks.root_unit, tasks)


def _link_tasks(step: Any, name: str, pairs: str, partitions: int) -> list[LinkUnit]:
    return [
        LinkUnit(unit=f"{name}-{number:05d}", source="", step=step, partition=number, partitions=partitions, pairs=pairs)
        for number in range(partitions)
    ]


def _listing(root: Path, reports: Sequence[UnitReport], name: str) -> str:
    """Write the paths of one output of a stage to a file for tasks that read all of them, so that tasks stay small."""
    return keep_bytes(root, "lists/files", ".json", json.dumps([report.path(name) for report in reports]).encode()).path


def _largest(root: Path, roots: Sequence[UnitReport]) -> list[dict[str, Any]]:
    found = [entry for report in roots for entry in json.loads(store.fetched(root / report.path("largest")).read_bytes())]
    return sorted(found, key=lambda entry: (-entry["documents"], entry["root"]))[:_LARGEST]


def _describe(
    pairs: Sequence[UnitReport], roots: Sequence[UnitReport], largest: Sequence[dict[str, Any]], decided: Sequence[UnitReport]
) -> DuplicateComponents:
    quotes = {one.reference: one for report in decided for one in report.shown}
    sizes: dict[str, int] = {}
    for upper in (1 << power for power in range(1, 64)):
        count = sum(report.component_sizes.get(size_class(upper), 0) for report in roots)
        if count:
            sizes[size_class(upper)] = count
    return DuplicateComponents(
        pairs_compared=sum(report.counts["compared"] for report in pairs),
        documents_left=sum(report.counts["left"] for report in pairs),
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
