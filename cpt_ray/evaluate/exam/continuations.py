"""Log-probabilities of continuations in packed rows: what every multiple-choice score is made of.

In: pairs of token ids, context and continuation. Out: the log-probability of each continuation. A context and its continuation
are a segment of a packed row instead of a row of a padded batch: the same numbers as lm-eval's Hugging Face model, without
computing logits that are never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from cpt_ray.evaluate.packed import last_states, plan_forwards

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
        self._model, self.max_length, self._batch_tokens = model, max_length, batch_tokens

    @torch.no_grad()
    def score(self, requests: Sequence[Continuation]) -> list[Answer]:
        """Score requests, in their order; those with the same inputs (the letters of one question) share a segment."""
        sharing: dict[tuple[int, ...], list[_Asked]] = {}
        for index, (context, continuation) in enumerate(requests):
            # As in lm-eval: truncate from the left; the last token is only predicted, never an input; a continuation that
            # does not fit is scored on its last tokens.
            stream = (context + continuation)[-(self.max_length + 1) :]
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
