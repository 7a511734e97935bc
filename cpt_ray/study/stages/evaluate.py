"""Stage `evaluate`: scores each base, budget, trajectory point and merge with the same code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.store import address, forget_unsent, is_mirrored, listing
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
    from cpt_ray.evaluate.suite import EvaluateJob

BASE = "base"


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
    }


def scored_run(node: ScoresNode) -> RunRecord:
    """The record of the model to score; a base is treated like any run."""
    subject, work = node.input("subject"), node.work
    if work.is_base:
        return RunRecord(run=node.name, kind="base", model=work.model.name, export_path=address(subject.folder), annealed=True)
    folder = store.require(subject)
    return RunRecord.of(folder if work.mark is None else point_folder(folder, work.mark))


class Scorer:
    """Scores models of a study, each content once; commits the scores of each as they are there.

    Args:
        session: Where the study works; Ray is started unless models are scored in this process.
    """

    def __init__(self, session: Session) -> None:
        if session.runtime.kind != "local":
            session.need_ray()
        from cpt_ray.evaluate.known import known_scores
        from cpt_ray.evaluate.launch import ScoringQueue

        self._session = session
        self.queue = ScoringQueue(session.runtime, self._done)
        self._known = known_scores(session.root / EVALUATE.name)
        self._nodes: dict[str, list[ScoresNode]] = {}
        """By key, the models with this content, of which the first is scored."""

    def add(self, node: ScoresNode) -> None:
        """Score a model whose inputs exist, or take the scores of one with the same content."""
        from cpt_ray.evaluate.known import is_intact
        from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings

        key = _key(node)
        node.folder.mkdir(parents=True, exist_ok=True)
        if is_mirrored(node.folder):
            forget_unsent(node.folder, listing(node.folder))
        if key in self._known and is_intact(self._known[key]):
            self._nodes.setdefault(key, []).append(node)
            self._share(key)
        elif key in self._nodes:
            self._nodes[key].append(node)
        else:
            work, tokenizer = node.work, _model_node(node).folder
            job = EvaluateJob(
                run=scored_run(node),
                tokenizer=tokenizer,
                prefix=text_tokens(work.model, tokenizer).prefix,
                folder=node.folder,
                key=key,
                trust_remote_code=work.model.trust_remote_code,
            )
            settings = EvaluateSettings(
                held_out=store.made(node.input("held_out")),
                exam_items=node.input("exams").folder / ExamItem.FILE if "exams" in node.inputs else None,
                config=work.evaluate,
                compare=work.compare,
            )
            self._nodes[key] = [node]
            self.queue.add(job, settings)

    def finish(self, room: int) -> None:
        """Score all that was added, that many models at once.

        Raises:
            Exception: The error of the first model that could not be scored, once the others are.
        """
        while self.queue.busy:
            now = self.queue.progress
            eta = f", ETA {now.eta_s:.0f} s" if now.eta_s else ""
            self._session.console.progress(
                f"  scoring {now.done}/{now.total} models, {now.scored_tokens} tokens, {now.tokens_per_s:.0f} tokens/s{eta}"
            )
            self.queue.look(room)
        self.queue.require_all()

    def _done(self, job: EvaluateJob, record: EvalRecord) -> None:
        first = self._nodes[job.key].pop(0)
        self._session.commit(first, started=time.perf_counter() - record.wall_s)
        self._known[job.key] = first.folder
        self._share(job.key)

    def _share(self, key: str) -> None:
        from cpt_ray.evaluate.known import copy_scores

        for node in self._nodes.pop(key, ()):
            source = self._known[key]
            copy_scores(source, node.folder, scored_run(node))
            self._session.console.step(f"  {node.label} has the content of {source.name}, and so its scores")
            self._session.commit(node, started=time.perf_counter())


def _key(node: ScoresNode) -> str:
    from cpt_ray.evaluate.known import score_key

    work, subject = node.work, node.input("subject")
    export = "" if work.is_base else f"{EXPORT}/" if work.mark is None else f"{POINTS}/{work.mark}/{EXPORT}/"
    rest = {
        "version": EVALUATE.version,
        "inputs": {name: found for name, found in node.input_fingerprints.items() if name != "subject"},
        "settings": {name: value for name, value in node.settings.items() if name != "trajectory_tokens"},
    }
    return score_key(store.read(subject).files, export, rest)


def _build(nodes: Sequence[ScoresNode], session: Session) -> None:
    """Score models as Ray tasks, or in this process with `runtime.kind: local`; each is committed as it ends."""
    scorer = Scorer(session)
    try:
        for node in nodes:
            scorer.add(node)
        scorer.finish(session.runtime.evaluate_workers)
    finally:
        scorer.queue.cancel()  # empty unless something was raised


def _model_node(node: ScoresNode) -> Node[ModelConfig, RunRecord]:
    """The imported base, whose tokenizer the run uses."""
    subject = node.input("subject")
    return subject if node.work.is_base else subject.input("model")


EVALUATE = Stage[Scoring, EvalRecord](
    name="evaluate",
    version=3,
    verb="evaluate",
    plan=_plan,
    build=_build,
    record=EvalRecord,
    files=("**/*",),
    driver_files=("**/*",),
)
