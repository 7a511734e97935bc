"""All scores of one export: bits per byte on each held-out set, then the exams. Independent of Ray.

In: a run, the held-out sets, the exam items, the config. Out: an `EvalRecord`, its copy `evaluation.json`, and the
per-document and per-item files that the record names. The base and every run use this same function.
What is known of the same content (`evaluate/known.py`) is taken; the model is loaded if something else is left to score.
Guarantee: an exam or task that fails, fails alone. The rest is kept, and the record says what failed and why.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig, ExamConfig, HarnessTask
from cpt_ray.edges import store
from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError, CptRayError, DataError, problem_of
from cpt_ray.evaluate.bits_per_byte import aggregate, read_documents, score_documents
from cpt_ray.evaluate.exam.choices import ExamQuestions, score_exam
from cpt_ray.evaluate.exam.scores import exam_score, require_free
from cpt_ray.evaluate.known import PartKey, keep_part, known_part, take_part
from cpt_ray.evaluate.packed import PackedScorer, pass_tokens
from cpt_ray.evaluate.per_item import ScoredDocument, format_scores, read_document_scores, read_item_scores
from cpt_ray.model.base import load_model, load_tokenizer
from cpt_ray.model.layers.compiled import compiled_scoring
from cpt_ray.model.layers.fused import fuse_projections
from cpt_ray.model.scoring import EncodedDocument, encode_document
from cpt_ray.records import (
    EvalRecord,
    ExamItem,
    ExamScore,
    FailedScore,
    HeldOutRecord,
    HeldOutScore,
    HeldOutSet,
    KnownPart,
    Made,
    RunRecord,
    ScoredTask,
    read_items,
)

logger = logging.getLogger(__name__)
PARTS = ("test", "validation")
"""Of the held-out sets: a budget is selected on the one and reported on the other."""
_LONGEST_REASON = 200
_Scored = tuple[Sequence[ScoredTask], Sequence[str]]
"""What an exam or entry consists of, and its files."""


@dataclass(frozen=True)
class EvaluateJob:
    """One export to score, and the folder for its results. Paths must be visible to every node."""

    run: RunRecord
    """The run, or the base."""
    tokenizer: Path
    """Tokenizer folder; the same for the base and all its runs."""
    prefix: str
    """The token that precedes each document."""
    folder: Path
    known: Path | None = None
    """Folder of what is known, and where parts are kept as they are scored; None scores everything."""
    keys: Mapping[str, PartKey] = field(default_factory=dict)
    """Of the parts, by their names; a part without one is scored and not kept."""
    trust_remote_code: bool = False
    """Whether Python files in the export may run."""


@dataclass(frozen=True)
class EvaluateSettings:
    """What all models of a study are scored on, and how."""

    held_out: Made[HeldOutRecord]
    exam_items: Path | None
    """File of the exam items; None if the study has no exams."""
    config: EvaluateConfig
    compare: CompareConfig
    """Confidence level, resamples and seed of the intervals."""
    parts: tuple[str, ...] = PARTS
    """Held-out parts to score: `test`, `validation` or both."""


def scored_sets(settings: EvaluateSettings) -> list[HeldOutSet]:
    """The held-out sets that models are scored on."""
    return [held for held in settings.held_out.record.sets if held.part in settings.parts and held.is_scored]


def set_part(held: HeldOutSet) -> str:
    """Name of a held-out set as a part."""
    return f"held_out/{held.source}-{held.part}"


def exam_part(exam: ExamConfig) -> str:
    """Name of an exam as a part."""
    return f"exam/{exam.name}"


def task_part(task: HarnessTask) -> str:
    """Name of an entry of `evaluate.harness_tasks` as a part."""
    return f"task/{task.task}"


def evaluate_model(job: EvaluateJob, settings: EvaluateSettings) -> EvalRecord:
    """Score one export.

    Returns:
        All scores, and what exams and tasks failed; paths in the record are relative to the job's folder.

    Raises:
        DataError: If a held-out set or the items cannot be read, no set has one of the parts, or a score on text is not finite.
        ConfigError: If the run has no export, or the prefix is not in the tokenizer's vocabulary.
    """
    export = job.run.export_path if store.is_mirrored(job.folder) else None
    with store.in_use(export and store.here(export, beside=store.here(job.folder))):
        return _evaluate(*_here(job, settings))


def _evaluate(job: EvaluateJob, settings: EvaluateSettings) -> EvalRecord:
    """Score an export that is on this node."""
    started = time.monotonic()
    run = job.run
    if run.export_path is None:
        raise ConfigError(f"run {run.run} has no export to score", fix="score the base and budgets; a trunk is never a budget")
    if not (sets := scored_sets(settings)):
        raise DataError(
            f"no held-out set has the part {' or '.join(sorted(settings.parts))}", fix="check prepare.held_out.validation_share"
        )
    suite = _Suite(job, settings)
    record = EvalRecord(
        run=run.run,
        model=run.model,
        arm=run.arm,
        seed=run.seed,
        budget_tokens=run.budget_tokens,
        tokens_seen=run.tokens_seen,
        held_out=suite.held_out(sets),
        exams=suite.exams(),
        failed=tuple(suite.failed),
        task_pid=os.getpid(),
        wall_s=time.monotonic() - started,
    )
    # Last: the per-document and per-item files that the record names are there before it is.
    store.push_folder(job.folder)
    write_atomic(job.folder / EvalRecord.FILE, record.to_json())
    return record


def _here(job: EvaluateJob, settings: EvaluateSettings) -> tuple[EvaluateJob, EvaluateSettings]:
    """The job and settings with the paths of this node."""
    if not store.is_mirrored(job.folder):
        return job, settings
    folder = store.here(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    export = job.run.export_path and str(store.here(job.run.export_path, beside=folder))
    run = job.run.model_copy(update={"export_path": export})
    known = job.known and store.here(job.known)
    held_out = Made(store.here(settings.held_out.folder), settings.held_out.record)
    return (
        dataclasses.replace(job, run=run, tokenizer=store.here(job.tokenizer), folder=folder, known=known),
        dataclasses.replace(settings, held_out=held_out, exam_items=settings.exam_items and store.here(settings.exam_items)),
    )


class _Suite:
    """The parts of one export, known or scored now."""

    def __init__(self, job: EvaluateJob, settings: EvaluateSettings) -> None:
        self._job, self._settings, self._config = job, settings, settings.config
        self.failed: list[FailedScore] = []
        self._names: list[str] = []
        """Of the exams and tasks so far."""

    @functools.cached_property
    def _model(self) -> _Model:
        """The loaded model: nothing loads it where everything is known."""
        return _Model(self._job, self._settings)

    def held_out(self, sets: Sequence[HeldOutSet]) -> tuple[HeldOutScore, ...]:
        """The scores on held-out text."""
        found = {held.path: self._known_documents(held) for held in sets}
        missing = [held for held in sets if not found[held.path]]
        if missing:
            found |= {held.path: scores for held, scores in zip(missing, self._model.held_out(missing), strict=True)}
        summed = []
        for held in sets:
            path = _documents_path(held)
            score = aggregate(found[held.path], held_out=held, documents_path=path, compare=self._settings.compare)
            if held in missing:  # summed up first: what is not finite is not kept
                write_atomic(self._job.folder / path, format_scores(found[held.path]))
                self._keep(set_part(held), [path], ())
            summed.append(score)
        return tuple(summed)

    def _known_documents(self, held: HeldOutSet) -> list[ScoredDocument]:
        known = self._take(set_part(held))
        return [] if known is None else read_document_scores(self._job.folder / _documents_path(held))

    def exams(self) -> tuple[ExamScore, ...]:
        """The scores of exams and harness tasks; what fails goes to `failed`."""
        scores: list[ExamScore] = []
        for exam in self._config.exams:
            found = self._tasks(exam_part(exam), exam.name, methodcaller("exam", exam))
            scores += [self._summed(one, exam.label) for one in found]
        for task in self._config.harness_tasks:
            found = self._tasks(task_part(task), task.task, methodcaller("task", task, self._names))
            for one in found:
                label = one.task if one.metric == "acc" else f"{one.task}, {one.metric}"
                label += "" if task.limit is None else f" (first {task.limit} items)"
                scores.append(self._summed(one, label, task))
        return tuple(scores)

    def _tasks(self, part: str, task: str, score: Callable[[_Model], _Scored]) -> Sequence[ScoredTask]:
        """What an exam or entry consists of, scored now if it is not known; nothing if that fails."""
        known = self._take(part, self._names)
        model = None if known else self._model  # one that cannot be loaded is no failure of the task
        try:
            tasks, files = score(model) if model else (known.tasks if known else (), ())
            require_free([one.task for one in tasks], self._names, task)
        except Exception as error:  # whatever a task raises, the model's other scores are kept
            reason = " ".join(problem_of(error).split())[:_LONGEST_REASON]
            fix = error.fix if isinstance(error, CptRayError) else "the log has the traceback"
            self.failed.append(FailedScore(run=self._job.run.run, task=task, reason=reason, fix=fix))
            logger.warning("%s was not scored on %s: %s; the rest is kept", self._job.run.run, task, reason, exc_info=error)
            return ()
        if known is None:
            self._keep(part, files, tasks)
        self._names += [one.task for one in tasks]
        return tasks

    def _summed(self, scored: ScoredTask, label: str, task: HarnessTask | None = None) -> ExamScore:
        lines = read_item_scores(self._job.folder / scored.items_path)
        return exam_score(scored, lines, self._settings.compare, label=label, suite=task.group if task else None)

    def _take(self, part: str, taken: Sequence[str] = ()) -> KnownPart | None:
        """A known part, whose files are in the folder then, unless they would replace others of that name."""
        root, key = self._job.known, self._job.keys.get(part)
        known = None if root is None or key is None else known_part(root, key.key)
        if root is not None and known is not None and not {one.task for one in known.tasks} & set(taken):
            take_part(root, known, self._job.folder)
        return known

    def _keep(self, part: str, files: Sequence[str], tasks: Sequence[ScoredTask]) -> None:
        root, key = self._job.known, self._job.keys.get(part)
        if root is not None and key is not None:
            keep_part(root, key, self._job.folder, files, tasks)


def _documents_path(held: HeldOutSet) -> str:
    return f"{set_part(held)}.jsonl"


class _Model:
    """A loaded model and what all its scores need."""

    def __init__(self, job: EvaluateJob, settings: EvaluateSettings) -> None:
        self._settings, self._config, self._folder = settings, settings.config, job.folder
        export, items = Path(str(job.run.export_path)), settings.exam_items
        for folder, pattern in (
            (job.tokenizer, "*"),
            (export, "**/*"),
            (settings.held_out.folder, "*"),
            (items and items.parent, "*"),
        ):
            if folder:  # of a root in a bucket, what this node does not have yet
                store.fetched_folder(folder, pattern)
        self._model = load_model(str(export), precision=self._config.precision, trust_remote_code=job.trust_remote_code)
        if self._model.device.type == "cuda":  # as in training: a CPU gains nothing
            fuse_projections(self._model)
        self._tokenizer = load_tokenizer(job.tokenizer, trust_remote_code=job.trust_remote_code)
        identifier = self._tokenizer.get_vocab().get(job.prefix)
        if identifier is None:
            raise ConfigError(
                f"{job.prefix!r}, the prefix of each document, is not a token of the tokenizer in {job.tokenizer}",
                fix="set the model's bos or separator to one of its special tokens",
            )
        self._prefix: int = identifier
        self._batch_tokens = pass_tokens(self._config.batch_tokens, self._model.device)

    def held_out(self, sets: Sequence[HeldOutSet]) -> list[list[ScoredDocument]]:
        """The scores of the documents of each set."""
        config = self._config
        encoded = [self._encode(held) for held in sets]
        with compiled_scoring(
            self._model,
            config.compile,
            num_tokens=sum(len(document.tokens) for documents in encoded for document in documents),
            row_tokens=max(self._batch_tokens, config.context),
            limit_s=config.compile_limit,
        ) as row_tokens:
            return [
                score_documents(
                    self._model,
                    documents,
                    prefix=self._prefix,
                    context=config.context,
                    batch_tokens=self._batch_tokens,
                    row_tokens=row_tokens,
                )
                for documents in encoded
            ]

    def _encode(self, held: HeldOutSet) -> list[EncodedDocument]:
        config = self._config
        return [
            encode_document(self._tokenizer, key, text, document_tokens=config.document_tokens)
            for key, text in read_documents(self._settings.held_out.folder / held.path, config.held_out_documents)
        ]

    def exam(self, exam: ExamConfig) -> _Scored:
        """Score an exam of the study."""
        scored = score_exam(self._scorer, self._tokenizer, self._questions, exam, prefix=self._prefix, folder=self._folder)
        return [scored], [scored.items_path]

    def task(self, task: HarnessTask, taken: Sequence[str]) -> _Scored:
        """Score an entry of `evaluate.harness_tasks`."""
        # lm-eval takes seconds to import, and a study without its tasks does not need it.
        with needed_for("evaluate.harness_tasks"):
            from cpt_ray.evaluate.harness import packed_lm, score_harness_task
        lm = packed_lm(self._model, self._tokenizer, prefix=self._prefix, config=self._config)
        return score_harness_task(lm, task, self._config, folder=self._folder, taken=taken)

    @functools.cached_property
    def _scorer(self) -> PackedScorer:
        return PackedScorer(self._model, max_length=self._config.exam_context, batch_tokens=self._batch_tokens)

    @functools.cached_property
    def _questions(self) -> ExamQuestions:
        return read_questions(self._settings.exam_items)


def read_questions(path: Path | None) -> ExamQuestions:
    """The questions and examples of a study's exams; none where it has no exams."""
    questions = ExamQuestions({}, {})
    if path is None:
        return questions
    examples = path.with_name(ExamItem.EXAMPLES)
    for by_exam, file in ((questions.items, path), (questions.examples, examples)):
        for item in read_items(file):
            by_exam.setdefault(item.task, []).append(item)
    return questions
