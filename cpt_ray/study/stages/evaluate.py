"""Stage `evaluate`: scores each base, budget, trajectory point and merge with the same code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import needed_for, versions
from cpt_ray.edges.store import address, fetched, forget_unsent, is_mirrored, listing
from cpt_ray.model.text_tokens import text_tokens
from cpt_ray.records import EvalRecord, ExamItem, RunRecord
from cpt_ray.study import store
from cpt_ray.study.stages.exams import EXAMS, files_at
from cpt_ray.study.stages.held_out import HELD_OUT
from cpt_ray.study.stages.merges import MERGES
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.train.runs.specs import trajectory_specs
from cpt_ray.train.task import EXPORT, POINTS, point_folder

if TYPE_CHECKING:
    from cpt_ray.evaluate.known import PartKey
    from cpt_ray.evaluate.launch import ScoringQueue
    from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings

BASE = "base"
KNOWN = "scored"
"""Folder of what was scored so far, below a study's root (`evaluate/known.py`)."""


@dataclass(frozen=True)
class Scoring:
    """A model to score, and how."""

    model: ModelConfig
    arm: str | None
    """None for a base."""
    mark: int | None
    """Mark of a trajectory point, which is in its parent's folder."""
    evaluate: EvaluateConfig
    compare: CompareConfig

    @property
    def is_base(self) -> bool:
        """Whether the model is a base."""
        return self.arm is None


ScoresNode = Node[Scoring, EvalRecord]


def base_run(model: str) -> str:
    """Name of the untrained base as a run."""
    return f"{model}-{BASE}"


def _plan(graph: Graph) -> Iterator[Planned[Scoring]]:
    models = {model.name: model for model in graph.config.models}
    runs = {node.name: node for node in graph.of(TRAIN)}
    specs = [node.work.spec for node in runs.values()]
    for name in models:
        yield _planned(graph, base_run(name), graph.one(MODELS, name), models[name])
    for spec in specs:
        if spec.budget_tokens is not None:
            yield _planned(graph, spec.name, runs[spec.name], models[spec.model], arm=spec.arm)
    for point in trajectory_specs(specs):
        yield _planned(graph, point.name, runs[str(point.parent)], models[point.model], arm=point.arm, mark=point.stop_tokens)
    for merged in graph.of(MERGES):
        yield _planned(graph, merged.name, merged, merged.work.model, arm=merged.work.arm)


def _planned(
    graph: Graph,
    name: str,
    subject: Node[Any, Any],
    model: ModelConfig,
    *,
    arm: str | None = None,
    mark: int | None = None,
) -> Planned[Scoring]:
    config = graph.config
    path = config.evaluate.harness_path
    inputs: dict[str, Node[Any, Any] | str] = {"subject": subject, "held_out": graph.one(HELD_OUT)}
    if graph.of(EXAMS):
        inputs["exams"] = graph.one(EXAMS)
    if path:
        inputs["harness_path"] = files_at(graph, f"{path}/*")
    inputs |= {f"task.{one.task}": files_at(graph, one.task) for one in config.evaluate.harness_tasks if one.is_file}
    settings = {
        **_score_settings(config),
        "separator": model.separator,
        "bos": model.bos,
        **({} if mark is None else {"trajectory_tokens": mark}),
    }
    work = Scoring(model, arm, mark, config.evaluate, config.compare)
    return Planned(name=name, inputs=inputs, settings=settings, work=work)


def _score_settings(config: StudyConfig) -> dict[str, object]:
    return {
        **config.evaluate.model_dump(
            mode="json",
            exclude={
                "exams": {"__all__": {"path", "few_shot_path"}},
                **dict.fromkeys(("harness_path", "batch_tokens", "compile", "compile_limit"), True),
            },
        ),
        **config.compare.model_dump(mode="json", exclude={"forgetting_tolerance", "next_budget_factor", "most_fitted"}),
        # A new version may have other tasks: what is known of the old ones is not used for it.
        **(versions("lm-eval") if config.evaluate.harness_tasks else {}),
    }


def scored_run(node: ScoresNode) -> RunRecord:
    """The record of the model to score; a base is treated like any run."""
    subject, work = node.input("subject"), node.work
    if work.is_base:
        return RunRecord(run=node.name, kind="base", model=work.model.name, export_path=address(subject.folder), annealed=True)
    folder = store.require(subject)
    return RunRecord.of(folder if work.mark is None else point_folder(folder, work.mark))


class Scorer:
    """Scores models of a study, each part of each content once; commits the scores of each as they are there.

    Ray is started for the first model that has something left to score, unless models are scored in this process.

    Args:
        session: Where the study works.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queue: ScoringQueue | None = None
        self._known = session.root / KNOWN
        self._nodes: dict[Path, ScoresNode] = {}
        """By folder, the models that are being scored."""
        self._claimed: dict[str, Path] = {}
        """By key of a part that is being scored, the folder of the model that it is scored for."""
        self._held: list[ScoresNode] = []
        """Models with such a part: they wait for it."""

    @property
    def busy(self) -> bool:
        """Whether a model is left."""
        return self._queue is not None and self._queue.busy

    def add(self, node: ScoresNode) -> None:
        """Score what is not known of a model whose inputs exist; what is scored just now for another is waited for."""
        from cpt_ray.evaluate.known import known_part
        from cpt_ray.evaluate.suite import evaluate_model

        job, settings = self._job(node)
        missing = [one.key for one in job.keys.values() if known_part(self._known, one.key) is None]
        if any(key in self._claimed for key in missing):
            self._held.append(node)
            return
        if store.exists(node):
            store.withdraw(node)
        node.folder.mkdir(parents=True, exist_ok=True)
        if is_mirrored(node.folder):
            forget_unsent(node.folder, listing(node.folder))
        if missing:
            self._nodes[node.folder] = node
            self._claimed |= dict.fromkeys(missing, node.folder)
            self._open_queue().add(job, settings)
        else:
            record = evaluate_model(job, settings)
            self._session.console.step(f"  {node.label}: all of it was scored before, of the same content")
            self._session.commit(node, started=time.perf_counter() - record.wall_s)

    def look(self, room: int) -> None:
        """See `ScoringQueue.look`."""
        if self._queue is not None:
            self._queue.look(room)

    def finish(self, room: int) -> None:
        """Score all that was added, that many models at once.

        Raises:
            Exception: The error of the first model that could not be scored, once the others are.
        """
        while self._queue is not None and self._queue.busy:
            self._session.console.progress(f"  {self._queue.progress}")
            self._queue.look(room)
        if self._queue is not None:
            self._queue.require_all()

    def cancel(self) -> None:
        """Give up what is left."""
        if self._queue is not None:
            self._queue.cancel()

    def _open_queue(self) -> ScoringQueue:
        if self._queue is None:
            if self._session.runtime.kind != "local":
                self._session.need_ray()
            from cpt_ray.evaluate.launch import ScoringQueue

            self._queue = ScoringQueue(self._session.runtime, self._done, self._free)
        return self._queue

    def _job(self, node: ScoresNode) -> tuple[EvaluateJob, EvaluateSettings]:
        from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings

        work, tokenizer = node.work, _model_node(node).folder
        settings = EvaluateSettings(
            held_out=store.made(node.input("held_out")),
            exam_items=node.input("exams").folder / ExamItem.FILE if "exams" in node.inputs else None,
            config=work.evaluate,
            compare=work.compare,
        )
        prefix = text_tokens(work.model, tokenizer).prefix
        job = EvaluateJob(
            run=scored_run(node),
            tokenizer=tokenizer,
            prefix=prefix,
            folder=node.folder,
            known=self._known,
            keys=part_keys(node, settings, prefix),
            trust_remote_code=work.model.trust_remote_code,
        )
        return job, settings

    def _done(self, job: EvaluateJob, record: EvalRecord) -> None:
        self._session.commit(self._nodes[job.folder], started=time.perf_counter() - record.wall_s)
        self._free(job)

    def _free(self, job: EvaluateJob) -> None:
        """Let go of the parts of a model that is done or has failed, and add those that waited for them."""
        self._nodes.pop(job.folder)
        self._claimed = {key: folder for key, folder in self._claimed.items() if folder != job.folder}
        held, self._held = self._held, []
        for node in held:
            self.add(node)


def part_keys(node: ScoresNode, settings: EvaluateSettings, prefix: str) -> dict[str, PartKey]:
    """The keys of what a model is scored on, by name of the part."""
    from cpt_ray.evaluate import keys
    from cpt_ray.evaluate.suite import exam_part, read_questions, scored_sets, set_part, task_part

    work, subject, config = node.work, node.input("subject"), settings.config
    export = "" if work.is_base else f"{EXPORT}/" if work.mark is None else f"{POINTS}/{work.mark}/{EXPORT}/"
    content = keys.export_content(store.read(subject).files, export)
    model = keys.model_facts(content, config, prefix=prefix)
    texts = {entry.path: entry.sha256 for entry in store.read(node.input("held_out")).files}
    found = {set_part(held): keys.held_out_key(model, config, held, texts[held.path]) for held in scored_sets(settings)}
    if settings.exam_items is not None:
        asked = read_questions(fetched(settings.exam_items))
        for exam in config.exams:
            items = asked.items.get(exam.name, []), asked.examples.get(exam.name, [])
            found[exam_part(exam)] = keys.exam_key(model, config, exam, *items)
    if config.harness_tasks:
        with needed_for("evaluate.harness_tasks"):
            from cpt_ray.evaluate.harness_tasks import task_versions
        for task in config.harness_tasks:
            tasks = task_versions(task.task, config.harness_path)
            found[task_part(task)] = keys.task_key(model, config, task, tasks)
    return found


def _failed(node: ScoresNode) -> bool:
    """Whether an exam or task of a model could not be scored."""
    return bool(store.load(node).failed)


def _build(nodes: Sequence[ScoresNode], session: Session) -> None:
    """Score models as Ray tasks, or in this process with `runtime.kind: local`; each is committed as it ends."""
    scorer = Scorer(session)
    try:
        for node in nodes:
            scorer.add(node)
        scorer.finish(session.runtime.evaluate_workers)
    finally:
        scorer.cancel()  # nothing unless something was raised


def _model_node(node: ScoresNode) -> Node[ModelConfig, RunRecord]:
    """The imported base, whose tokenizer the run uses."""
    subject = node.input("subject")
    return subject if node.work.is_base else subject.input("model")


EVALUATE = Stage[Scoring, EvalRecord](
    name="evaluate",
    version=4,
    verb="evaluate",
    plan=_plan,
    build=_build,
    record=EvalRecord,
    files=("**/*",),
    driver_files=("**/*",),
    lacks=_failed,
)
