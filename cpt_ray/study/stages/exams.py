"""Stage `exams`: the questions of `evaluate.exams`, read once, in the form that the harness scores."""

from __future__ import annotations

from collections.abc import Iterator

from cpt_ray.config.sections.evaluate import ExamConfig
from cpt_ray.evaluate.exam.items import write_exams
from cpt_ray.records import Record
from cpt_ray.study.inputs import listing
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one

Exams = tuple[ExamConfig, ...]


def exam_inputs(graph: Graph, exams: Exams) -> dict[str, str]:
    """Exam name to the fingerprint of its files, and of those of its examples."""
    examples = {f"{exam.name}.few_shot": files_at(graph, exam.few_shot_path) for exam in exams if exam.few_shot_path}
    return {exam.name: files_at(graph, exam.path) for exam in exams} | examples


def files_at(graph: Graph, uri: str) -> str:
    """The fingerprint of the files that match a glob, listed once for all cells."""
    return graph.input(f"files {uri}", lambda: listing(uri))


def exam_settings(exams: Exams) -> list[dict[str, object]]:
    """The settings that shape exam items: neither the label, nor the folder, nor how they are scored."""
    kept = ("name", "format", "limit")
    return [exam.model_dump(mode="json", include={*kept, *(["few_shot"] if exam.few_shot else [])}) for exam in exams]


def _plan(graph: Graph) -> Iterator[Planned[Exams]]:
    exams = graph.config.evaluate.exams
    if exams:
        yield Planned(
            name=graph.config.study.name, inputs=exam_inputs(graph, exams), settings={"exams": exam_settings(exams)}, work=exams
        )


def _build(node: Node[Exams, Record], _: Session) -> None:
    write_exams(node.work, node.folder)


EXAMS = Stage[Exams, Record](
    name="exams", version=2, verb="prepare", plan=_plan, build=one_by_one(_build), record=None, files=("*.json*",)
)
