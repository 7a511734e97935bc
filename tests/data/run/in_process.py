"""Run the preparation tasks sequentially in this process, without Ray, to inspect what workers do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.read import plan_reads
from cpt_ray.data.run.document_tasks import CleanUnit, ReadUnit, clean_unit, read_unit
from cpt_ray.data.run.duplicates import find_duplicates, order_of_priority
from cpt_ray.data.run.reports import UnitReports
from cpt_ray.data.run.training_tasks import DrawUnit, PackUnit, draw_unit, pack_unit
from cpt_ray.data.run.units import UnitContext
from cpt_ray.records import DuplicateComponents, UnitReport
from tests.data.conftest import VOCABULARY, settings

PARTITIONS = 3


def source_of(folder: Path, name: str, texts: dict[str, str], role: str = "domain") -> SourceConfig:
    """A source of JSON lines from texts by id."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in texts.items()))
    fields = {"name": name, "role": role, "path": str(path), "format": "jsonl", "id_field": "id"}
    return SourceConfig.model_validate(fields)


@dataclass
class Documents:
    """Clean units and their verdicts."""

    context: UnitContext
    cleans: list[CleanUnit]
    cleaned: UnitReports
    decided: UnitReports
    components: DuplicateComponents
    pairs: UnitReports
    read: tuple[UnitReport, ...] = ()

    def draw_tasks(self) -> list[DrawUnit]:
        return [
            DrawUnit(
                unit=task.unit,
                source=task.source,
                clean=clean.path("clean"),
                near_duplicates=verdict.path("verdicts"),
                share=self.context.prepare.held_out.share,
            )
            for task, clean, verdict in zip(self.cleans, self.cleaned, self.decided, strict=True)
        ]


def read(context: UnitContext) -> list[UnitReport]:
    """Read all sources, in the order of priority."""
    return [
        read_unit(ReadUnit(unit=f"{name}-read-{read.index:05d}", source=name, read=read), context)
        for name in order_of_priority(context.sources)
        for read in plan_reads(context.source(name), context.prepare.unit_bytes)
    ]


def clean(context: UnitContext, done: Sequence[UnitReport] | None = None) -> tuple[list[CleanUnit], UnitReports]:
    """Read all sources, unless that is done, and clean them."""
    reads = read(context) if done is None else done
    raw = [(report.reports[0].source, entry.path) for report in reads for entry in report.outputs["raw"]]
    tasks = [
        CleanUnit(unit=f"{name}-{number:05d}", source=name, number=number, raw=path, partitions=PARTITIONS)
        for number, (name, path) in enumerate(raw)
    ]
    return tasks, stage_in(context)("clean", clean_unit, tasks)


def stage_in(context: UnitContext, seen: list[str] | None = None) -> Callable[..., UnitReports]:
    """A `RunStage` that runs its tasks in this process and records the stages in `seen`."""

    def stage(name: str, work: Callable[[Any, UnitContext], UnitReport], tasks: Sequence[Any]) -> UnitReports:
        if seen is not None:
            seen.append(name)
        return UnitReports.of(name, tasks, context, [work(task, context) for task in tasks])

    return stage


def documents(folder: Path, sources: Sequence[SourceConfig], config: PrepareConfig | None = None) -> Documents:
    """Process sources into clean documents with verdicts."""
    context = UnitContext(folder=str(folder), sources=tuple(sources), prepare=config or settings())
    reads = read(context)
    tasks, cleaned = clean(context, reads)
    pairs, decided, components = find_duplicates(stage_in(context), context, tasks, cleaned)
    return Documents(context, tasks, cleaned, decided, components, pairs, tuple(reads))


def draw(made: Documents, folder: Path) -> tuple[UnitContext, UnitReports]:
    """Draw the held-out documents of all units."""
    context = made.context.model_copy(update={"folder": str(folder), "inputs": {"documents": made.context.folder}})
    return context, stage_in(context)("held_out", draw_unit, made.draw_tasks())


def pack(
    made: Documents, folder: Path, tokenizer: Path, *, held_out: Path, exam_items: Path | None = None
) -> tuple[UnitContext, list[PackUnit], UnitReports]:
    """Pack all units; the tokenizer file is given as an absolute path."""
    inputs = {"documents": made.context.folder, "held_out": str(held_out)}
    context = made.context.model_copy(update={"folder": str(folder), "inputs": inputs})
    encoder = {"tokenizer": str(tokenizer / "tokenizer.json"), "separator_id": separator_id(tokenizer), "bos_id": None}
    items = None if exam_items is None else str(exam_items)
    tasks = [PackUnit(**task.model_dump(), exam_items=items, token_dtype="uint16", **encoder) for task in made.draw_tasks()]
    return context, tasks, stage_in(context)("pack", pack_unit, tasks)


def separator_id(tokenizer: Path) -> int:
    """The id of the separator in the test tokenizer."""
    tree = json.loads((tokenizer / "tokenizer.json").read_text())
    found = next(int(token["id"]) for token in tree["added_tokens"] if token["special"])
    assert found < VOCABULARY
    return found
