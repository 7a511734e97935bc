"""All scores of one export: bits per byte on each held-out set, then the exams. Independent of Ray.

In: a run, the held-out sets, the exam items, the config. Out: an `EvalRecord`, its copy `evaluation.json`, and the
per-document and per-item files that the record names. The base and every run use this same function.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.edges import store
from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError, DataError
from cpt_ray.evaluate.bits_per_byte import aggregate, read_documents, score_documents
from cpt_ray.evaluate.exam.choices import ExamQuestions, score_exams
from cpt_ray.evaluate.packed import PackedScorer, pass_tokens
from cpt_ray.evaluate.per_item import format_scores
from cpt_ray.model.base import load_model, load_tokenizer
from cpt_ray.model.layers.compiled import compiled_scoring
from cpt_ray.model.layers.fused import fuse_projections
from cpt_ray.model.scoring import EncodedDocument, encode_document
from cpt_ray.records import (
    EvalRecord,
    ExamItem,
    ExamScore,
    HeldOutRecord,
    HeldOutScore,
    HeldOutSet,
    Made,
    RunRecord,
    read_items,
)


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
    key: str = ""
    """Of what the scores depend on (`evaluate/known.py`)."""
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
    parts: tuple[str, ...] = ("test",)
    """Held-out parts to score: `test`, `validation` or both."""


def evaluate_model(job: EvaluateJob, settings: EvaluateSettings) -> EvalRecord:
    """Score one export.

    Returns:
        All scores; paths in the record are relative to the job's folder.

    Raises:
        DataError: If a held-out set or the items cannot be read, no set has one of the parts, or a score is not finite.
        ConfigError: If the run has no export, the prefix is not in the tokenizer's vocabulary, or a harness task cannot run.
    """
    export = job.run.export_path if store.is_mirrored(job.folder) else None
    with store.in_use(export and store.here(export, beside=store.here(job.folder))):
        return _evaluate(*_here(job, settings))


def _evaluate(job: EvaluateJob, settings: EvaluateSettings) -> EvalRecord:
    """Score an export that is on this node."""
    started = time.monotonic()
    run, parts = job.run, settings.parts
    if run.export_path is None:
        raise ConfigError(f"run {run.run} has no export to score", fix="score the base and budgets; a trunk is never a budget")
    if not (sets := [held for held in settings.held_out.record.sets if held.part in parts]):
        raise DataError(
            f"no held-out set has the part {' or '.join(sorted(parts))}", fix="check prepare.held_out.validation_share"
        )
    model = load_model(run.export_path, precision=settings.config.precision, trust_remote_code=job.trust_remote_code)
    if model.device.type == "cuda":  # as in training: a CPU gains nothing
        fuse_projections(model)
    scorer = _Scorer(model, job, settings)
    held_out_scores = scorer.held_out(sets)
    record = EvalRecord(
        run=run.run,
        model=run.model,
        arm=run.arm,
        seed=run.seed,
        budget_tokens=run.budget_tokens,
        tokens_seen=run.tokens_seen,
        held_out=held_out_scores,
        exams=scorer.exams(),
        task_pid=os.getpid(),
        wall_s=time.monotonic() - started,
        key=job.key,
    )
    # Last: the per-document and per-item files that the record names are there before it is.
    store.push_folder(job.folder)
    write_atomic(job.folder / EvalRecord.FILE, record.to_json())
    return record


def _here(job: EvaluateJob, settings: EvaluateSettings) -> tuple[EvaluateJob, EvaluateSettings]:
    """The job and settings with the paths of this node, after the files that they name were fetched from a store."""
    if not store.is_mirrored(job.folder):
        return job, settings
    folder, tokenizer = store.here(job.folder), store.here(job.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    export = job.run.export_path and store.here(job.run.export_path, beside=folder)
    held_out = store.here(settings.held_out.folder)
    items = settings.exam_items and store.here(settings.exam_items)
    for read, pattern in ((tokenizer, "*"), (export, "**/*"), (held_out, "*"), (items and items.parent, "*")):
        if read:
            store.fetched_folder(read, pattern)
    run = job.run.model_copy(update={"export_path": export and str(export)})
    return (
        dataclasses.replace(job, run=run, tokenizer=tokenizer, folder=folder),
        dataclasses.replace(settings, held_out=Made(held_out, settings.held_out.record), exam_items=items),
    )


class _Scorer:
    """A loaded model and what all its scores need."""

    def __init__(self, model: PreTrainedModel, job: EvaluateJob, settings: EvaluateSettings) -> None:
        self._model, self._settings, self._config, self._folder = model, settings, settings.config, job.folder
        self._tokenizer = load_tokenizer(job.tokenizer, trust_remote_code=job.trust_remote_code)
        identifier = self._tokenizer.get_vocab().get(job.prefix)
        if identifier is None:
            raise ConfigError(
                f"{job.prefix!r}, the prefix of each document, is not a token of the tokenizer in {job.tokenizer}",
                fix="set the model's bos or separator to one of its special tokens",
            )
        self._prefix: int = identifier
        self._batch_tokens = pass_tokens(self._config.batch_tokens, model.device)

    def held_out(self, sets: Sequence[HeldOutSet]) -> tuple[HeldOutScore, ...]:
        config = self._config
        encoded = [self._encode(held) for held in sets]
        with compiled_scoring(
            self._model,
            config.compile,
            num_tokens=sum(len(document.tokens) for documents in encoded for document in documents),
            row_tokens=max(self._batch_tokens, config.context),
            limit_s=config.compile_limit,
        ) as row_tokens:
            return tuple(self._score(held, documents, row_tokens) for held, documents in zip(sets, encoded, strict=True))

    def _encode(self, held: HeldOutSet) -> list[EncodedDocument]:
        config = self._config
        return [
            encode_document(self._tokenizer, key, text, document_tokens=config.document_tokens)
            for key, text in read_documents(self._settings.held_out.folder / held.path, config.held_out_documents)
        ]

    def _score(self, held: HeldOutSet, documents: list[EncodedDocument], row_tokens: int | None) -> HeldOutScore:
        config = self._config
        scores = score_documents(
            self._model,
            documents,
            prefix=self._prefix,
            context=config.context,
            batch_tokens=self._batch_tokens,
            row_tokens=row_tokens,
        )
        path = f"held_out/{held.source}-{held.part}.jsonl"
        score = aggregate(scores, held_out=held, documents_path=path, compare=self._settings.compare)
        write_atomic(self._folder / path, format_scores(scores))
        return score

    def exams(self) -> tuple[ExamScore, ...]:
        config, compare = self._config, self._settings.compare
        scorer = PackedScorer(self._model, max_length=config.exam_context, batch_tokens=self._batch_tokens)
        scores = score_exams(
            scorer,
            self._tokenizer,
            _questions(self._settings.exam_items),
            config.exams,
            prefix=self._prefix,
            compare=compare,
            folder=self._folder,
        )
        if not config.harness_tasks:
            return scores
        # lm-eval takes seconds to import, and a study without its tasks does not need it.
        with needed_for("evaluate.harness_tasks"):
            from cpt_ray.evaluate.harness import score_harness_tasks

        tasks = score_harness_tasks(
            self._model, self._tokenizer, prefix=self._prefix, config=config, compare=compare, folder=self._folder
        )
        return (*scores, *tasks)


def _questions(path: Path | None) -> ExamQuestions:
    questions = ExamQuestions({}, {})
    if path is None:
        return questions
    examples = path.with_name(ExamItem.EXAMPLES)
    for by_exam, file in ((questions.items, path), (questions.examples, examples)):
        for item in read_items(file):
            by_exam.setdefault(item.task, []).append(item)
    return questions
