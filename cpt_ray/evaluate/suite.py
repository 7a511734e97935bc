"""All scores of one export: bits per byte on each held-out set, then the exams. Knows nothing of Ray.

In: a run, the held-out sets, the exam items, the config. Out: an `EvalRecord`, its copy `evaluation.json`, and per document
and per item files that the record names. The base and every run go through this one function.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError, DataError
from cpt_ray.evaluate.bits_per_byte import aggregate, read_documents, score_documents
from cpt_ray.evaluate.per_item import format_scores
from cpt_ray.model.base import load_model, load_tokenizer
from cpt_ray.model.scoring import encode_document
from cpt_ray.records import (
    EvalRecord,
    ExamItem,
    ExamScore,
    HeldOutRecord,
    HeldOutScore,
    HeldOutSet,
    RunRecord,
    read_items,
)

EVALUATION_FILE = "evaluation.json"


def evaluate_model(
    run: RunRecord,
    *,
    held_out: HeldOutRecord,
    held_out_folder: Path,
    exam_items: Path | None,
    config: EvaluateConfig,
    compare: CompareConfig,
    prefix: str,
    tokenizer: Path,
    folder: Path,
    parts: Collection[str] = ("test",),
    trust_remote_code: bool = False,
) -> EvalRecord:
    """Score one run's export.

    Args:
        run: The run, or the base.
        held_out: The study's held-out sets.
        held_out_folder: Folder that their paths are relative to.
        exam_items: File of the items; None where the study has no exams.
        config: The `evaluate` section.
        compare: Level, resamples and seed of the intervals.
        prefix: The token in front of each document.
        tokenizer: Folder of the tokenizer; the same for the base and all its runs.
        folder: Folder to write into.
        parts: Held-out parts to score: `test`, `validation` or both.
        trust_remote_code: Whether Python files of the export may run.

    Returns:
        All scores; paths in it are relative to `folder`.

    Raises:
        DataError: If a held-out set or the items cannot be read, no set has one of `parts`, or a score is not finite.
        ConfigError: If the run has no export, the tokenizer does not know the prefix, or a harness task cannot run.
    """
    started = time.monotonic()
    if run.export_path is None:
        raise ConfigError(f"run {run.run} has no export to score", fix="score the base and budgets; a trunk is never a budget")
    if not (sets := [held for held in held_out.sets if held.part in parts]):
        raise DataError(
            f"no held-out set has the part {' or '.join(sorted(parts))}", fix="check prepare.held_out.validation_share"
        )
    model = load_model(run.export_path, precision=config.precision, trust_remote_code=trust_remote_code)
    scorer = _Scorer(model, load_tokenizer(tokenizer, trust_remote_code=trust_remote_code), prefix, config, folder)
    held_out_scores = tuple(scorer.held_out(held, held_out_folder, compare) for held in sets)
    record = EvalRecord(
        run=run.run,
        model=run.model,
        arm=run.arm,
        seed=run.seed,
        budget_tokens=run.budget_tokens,
        tokens_seen=run.tokens_seen,
        held_out=held_out_scores,
        exams=scorer.exams(exam_items),
        task_pid=os.getpid(),
        wall_s=time.monotonic() - started,
    )
    write_atomic(folder / EVALUATION_FILE, record.to_json())
    return record


class _Scorer:
    """One loaded model and what every score of it needs."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prefix: str,
        config: EvaluateConfig,
        folder: Path,
    ) -> None:
        self._model, self._config, self._folder = model, config, folder
        self._tokenizer = tokenizer
        identifier = self._tokenizer.get_vocab().get(prefix)
        if identifier is None:
            raise ConfigError(
                f"{prefix!r}, which begins each document, is no token of the tokenizer in {tokenizer.name_or_path}",
                fix="set the model's bos or separator to one of its special tokens",
            )
        self._prefix: int = identifier

    def held_out(self, held: HeldOutSet, held_out_folder: Path, compare: CompareConfig) -> HeldOutScore:
        config = self._config
        documents = [
            encode_document(self._tokenizer, identifier, text, document_tokens=config.document_tokens)
            for identifier, text in read_documents(held_out_folder / held.path, config.held_out_documents)
        ]
        scores = score_documents(
            self._model, documents, prefix=self._prefix, context=config.context, batch_tokens=config.batch_tokens
        )
        path = f"held_out/{held.source}-{held.part}.jsonl"
        score = aggregate(scores, held_out=held, documents_path=path, compare=compare)
        write_atomic(self._folder / path, format_scores(scores))
        return score

    def exams(self, exam_items: Path | None) -> tuple[ExamScore, ...]:
        if not self._config.exams and not self._config.harness_tasks:
            return ()
        # lm-eval takes seconds to import, and a study without exams does not need it.
        from cpt_ray.evaluate.harness import score_exams

        items: dict[str, list[ExamItem]] = {}
        for item in read_items(exam_items) if exam_items is not None else ():
            items.setdefault(item.task, []).append(item)
        return score_exams(self._model, self._tokenizer, items, prefix=self._prefix, config=self._config, folder=self._folder)
