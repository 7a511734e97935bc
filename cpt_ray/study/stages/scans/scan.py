"""Stage `scan`: the exam items to decontaminate against, including those of lm-eval tasks from the hub.

A study has up to two of these artifacts: `NAME` holds the items to scan for before packing, `NAME-late` the items of exams that
are scored but were not scanned for, which are looked up in the packed text. They are separate from the exams' artifact, even if
they hold the same items: an exam added later changes that one, and must not change the shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.storage import write_atomic
from cpt_ray.evaluate.exam.items import read_exam
from cpt_ray.records import ExamItem, Record, write_items
from cpt_ray.study.stages.exams import Exams, exam_inputs, exam_settings, files_at
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one


@dataclass(frozen=True)
class Scanned:
    """The exams and lm-eval tasks to scan for."""

    exams: Exams
    tasks: tuple[str, ...]
    harness_path: str | None


def scanned_before(config: StudyConfig) -> Scanned:
    """What to scan for before packing: `prepare.decontaminate.tasks`, or everything that is scored."""
    path = config.evaluate.harness_path
    if not config.prepare.decontaminate.enabled:
        return Scanned((), (), path)
    names = config.prepare.decontaminate.tasks
    if names is None:
        return Scanned(config.evaluate.exams, config.evaluate.harness_names, path)
    exams = tuple(exam for exam in config.evaluate.exams if exam.name in names)
    return Scanned(exams, tuple(name for name in names if name not in {exam.name for exam in exams}), path)


def scanned_late(config: StudyConfig) -> Scanned:
    """What is scored, but was not scanned for before packing."""
    path = config.evaluate.harness_path
    if not config.prepare.decontaminate.enabled:
        return Scanned((), (), path)
    before = scanned_before(config)
    return Scanned(
        tuple(exam for exam in config.evaluate.exams if exam not in before.exams),
        tuple(name for name in config.evaluate.harness_names if name not in before.tasks),
        path,
    )


def early_name(graph: Graph) -> str:
    """Name of the artifact with the items to scan for before packing."""
    return graph.config.study.name


def late_name(graph: Graph) -> str:
    """Name of the artifact with the items to look up in packed text."""
    return f"{graph.config.study.name}-late"


def _plan(graph: Graph) -> Iterator[Planned[Scanned]]:
    for name, wanted in (
        (early_name(graph), scanned_before(graph.config)),
        (late_name(graph), scanned_late(graph.config)),
    ):
        if wanted.exams or wanted.tasks:
            local = (
                {"harness_path": files_at(graph, f"{wanted.harness_path}/*")} if wanted.tasks and wanted.harness_path else {}
            )
            yield Planned(
                name=name,
                inputs={**exam_inputs(graph, wanted.exams), **local},
                settings={"exams": exam_settings(wanted.exams), "tasks": list(wanted.tasks)},
                work=wanted,
            )


def _build(node: Node[Scanned, Record], _: Session) -> None:
    items = [item for exam in node.work.exams for item in read_exam(exam).items]
    if node.work.tasks:
        with needed_for("prepare.decontaminate.tasks, or evaluate.harness_tasks,"):
            from cpt_ray.evaluate.harness_tasks import task_items

        items += task_items(node.work.tasks, node.work.harness_path)
    write_atomic(node.folder / ExamItem.FILE, write_items(items))


SCAN = Stage[Scanned, Record](
    name="scan", version=1, verb="prepare", plan=_plan, build=one_by_one(_build), record=None, files=(ExamItem.FILE,)
)
