r"""Multiple-choice exams from log-probabilities: packed scoring of continuations, and the study's own exams. Needs no lm-eval.

In: a loaded model with document attention, and exam items. Out: `ExamScore`s, and per-item results as JSON lines. A context and
its continuation are a segment of a packed row instead of a row of a padded batch: the same numbers as lm-eval's Hugging Face
model, without computing logits that are never read.

The choices are scored as continuations of `Question: ...\nAnswer:` (cloze form): at this model size that gives far more signal
than scoring letters. The numbers are those of lm-eval 0.4.13 for a multiple-choice task with this prompt
(`tests/evaluate/test_choices.py` runs both).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cpt_ray.config.sections.evaluate import EvaluateConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import DataError
from cpt_ray.evaluate.packed import last_states, plan_forwards
from cpt_ray.evaluate.per_item import ScoredItem, format_scores
from cpt_ray.records import ExamItem, ExamScore

_LOGIT_ROWS = 256
"""Rows of logits held at once: 50 MB in fp32 at a vocabulary of 49k."""


class Continuation(NamedTuple):
    """Token ids of a context, which is not empty, and of what follows it."""

    context: list[int]
    continuation: list[int]


class Answer(NamedTuple):
    """The sum of log p of a continuation's tokens in nats, and whether greedy decoding gives it."""

    log_p: float
    greedy: bool


class _Asked(NamedTuple):
    """What is asked of a segment: the tokens that a request wants at its last positions."""

    request: int
    labels: list[int]


class PackedScorer:
    """Scores continuations in packed rows.

    Args:
        model: A causal LM with document attention, in eval mode.
        max_length: Maximum tokens of a context plus its continuation.
        batch_tokens: Maximum input tokens per forward pass.
    """

    def __init__(self, model: PreTrainedModel, *, max_length: int, batch_tokens: int) -> None:
        self._model, self._max_length, self._batch_tokens = model, max_length, batch_tokens

    @torch.no_grad()
    def score(self, requests: Sequence[Continuation]) -> list[Answer]:
        """Score requests, in their order; those with the same inputs (the letters of one question) share a segment."""
        sharing: dict[tuple[int, ...], list[_Asked]] = {}
        for index, (context, continuation) in enumerate(requests):
            # As in lm-eval: truncate from the left; the last token is only predicted, never an input; a continuation that
            # does not fit is scored on its last tokens.
            stream = (context + continuation)[-(self._max_length + 1) :]
            labels = stream[len(stream) - min(len(continuation), len(stream) - 1) :]
            sharing.setdefault(tuple(stream[:-1]), []).append(_Asked(index, labels))
        segments = list(sharing)
        answers = [Answer(0.0, greedy=False)] * len(requests)
        for group in plan_forwards([len(segment) for segment in segments], self._batch_tokens):
            self._score_group([(segments[index], sharing[segments[index]]) for index in group], answers)
        return answers

    def _score_group(self, group: list[tuple[tuple[int, ...], list[_Asked]]], answers: list[Answer]) -> None:
        counts = [max(len(one.labels) for one in each) for _, each in group]
        states = last_states(self._model, [segment for segment, _ in group], counts)
        asked = [(one, part) for (_, each), part in zip(group, states.split(counts), strict=True) for one in each]
        hidden = torch.cat([part[len(part) - len(one.labels) :] for one, part in asked])
        labels = torch.tensor([token for one, _ in asked for token in one.labels], device=hidden.device)
        log_p, greedy = (found.split([len(one.labels) for one, _ in asked]) for found in self._read_labels(hidden, labels))
        for (one, _), values, likeliest in zip(asked, log_p, greedy, strict=True):
            answers[one.request] = Answer(float(values.sum()), greedy=bool(likeliest.all()))

    def _read_labels(self, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        head = self._model.get_output_embeddings()
        log_p, greedy = [], []
        # In slices: logits of all labels at once would take vocabulary x labels floats.
        for start in range(0, len(labels), _LOGIT_ROWS):
            rows = slice(start, start + _LOGIT_ROWS)
            logits = head.logits(hidden[rows])
            log_p.append(torch.log_softmax(logits, dim=-1).gather(1, labels[rows, None])[:, 0].double())
            greedy.append(logits.argmax(dim=-1) == labels[rows])
        return torch.cat(log_p).cpu(), torch.cat(greedy).cpu()


def score_exams(
    scorer: PackedScorer,
    tokenizer: PreTrainedTokenizerBase,
    items: dict[str, list[ExamItem]],
    *,
    prefix: int,
    config: EvaluateConfig,
    folder: Path,
) -> tuple[ExamScore, ...]:
    """Score the study's exams.

    Args:
        scorer: The model.
        tokenizer: Its tokenizer.
        items: Items of each of `config.exams`, by task.
        prefix: Token id that precedes a document; a question that begins with this token gets no other.
        config: The `evaluate` section.
        folder: Evaluation folder; per-item results go to `exams/TASK.jsonl` in it.

    Returns:
        The scores, in config order.

    Raises:
        DataError: If an exam of the config has no items.
    """
    for exam in config.exams:
        if not items.get(exam.name):
            raise DataError(
                f"evaluate.exams {exam.name}: no items for this exam; found items for {sorted(items) or 'none'}",
                fix="run `cpt-ray prepare` again to rewrite the exam items",
            )
    scores = []
    for exam in config.exams:
        lines = _score_items(scorer, tokenizer, items[exam.name], prefix)
        chance = sum(1 / len(line.log_p) for line in lines) / len(lines)
        scores.append(exam_score(exam.name, exam.label, lines, chance=chance, folder=folder))
    return tuple(scores)


def _score_items(
    scorer: PackedScorer, tokenizer: PreTrainedTokenizerBase, items: Sequence[ExamItem], prefix: int
) -> list[ScoredItem]:
    bos = tokenizer.decode(prefix)
    requests = [
        _encode(tokenizer, f"Question: {item.question}\nAnswer:", f" {choice}", bos)
        for item in items
        for choice in item.choices
    ]
    answers = iter(scorer.score(requests))
    return [_scored(item, tuple(next(answers).log_p for _ in item.choices)) for item in items]


def _encode(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str, bos: str) -> Continuation:
    """Encode as lm-eval does: the continuation's tokens are those of the whole text beyond the context's."""
    special = {"add_special_tokens": False} if bos and context.startswith(bos) else {}
    whole, first = tokenizer.encode(context + continuation, **special), tokenizer.encode(context, **special)
    return Continuation(first, whole[len(first) :])


def _scored(item: ExamItem, log_p: tuple[float, ...]) -> ScoredItem:
    normed = [value / len(choice) for value, choice in zip(log_p, item.choices, strict=True)]
    return ScoredItem(
        id=item.id,
        accuracy=float(log_p.index(max(log_p)) == item.right_choice),
        accuracy_norm=float(normed.index(max(normed)) == item.right_choice),
        log_p=log_p,
    )


def exam_score(task: str, label: str, lines: Sequence[ScoredItem], *, chance: float, folder: Path) -> ExamScore:
    """Summarize the items of a task, and save them to `exams/TASK.jsonl` in `folder`."""
    path = f"exams/{task}.jsonl"
    write_atomic(folder / path, format_scores(lines))
    accuracy, stderr = _mean_and_stderr([line.accuracy for line in lines])
    normed = [line.accuracy_norm for line in lines if line.accuracy_norm is not None]
    accuracy_norm, norm_stderr = _mean_and_stderr(normed) if len(normed) == len(lines) else (None, None)
    return ExamScore(
        task=task,
        label=label,
        items=len(lines),
        accuracy=accuracy,
        accuracy_stderr=stderr,
        accuracy_norm=accuracy_norm,
        accuracy_norm_stderr=norm_stderr,
        chance=chance,
        items_path=path,
    )


def _mean_and_stderr(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return mean, math.sqrt(spread / len(values))
