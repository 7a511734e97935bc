"""Forward passes over packed segments, and the log-probabilities of continuations in them: what all scores are made of.

In: token ids of segments that cannot attend to each other. Out: final hidden states at the last positions of each, of which
alone logits are computed; of a context and its continuation, which are one segment, the log-probability that lm-eval's Hugging
Face model finds in a padded batch. Guarantee: a segment's result does not depend on what it is packed with.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cpt_ray.model.attention.isolation import hidden_states
from cpt_ray.model.layers.compiled import filler_lengths

_LOGIT_ROWS = 256
"""Rows of logits held at once: 50 MB in fp32 at a vocabulary of 49k."""
_PASS_TOKENS = {"cpu": 1024}
_PASS_TOKENS_ELSEWHERE = 16384


def pass_tokens(setting: int | Literal["auto"], device: torch.device) -> int:
    """Maximum input tokens of a forward pass under `evaluate.batch_tokens`.

    On a CPU 1,024 tokens of a 135M model stay in cache: 5 % less time than 4,096, and the same figures to the last bit.
    """
    return _PASS_TOKENS.get(device.type, _PASS_TOKENS_ELSEWHERE) if setting == "auto" else setting


def plan_forwards(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group segments, given by their lengths, into forward passes of at most `batch_tokens`; a longer one gets its own pass.

    Longest first, ties in order: the same segments always give the same passes, and the largest runs first.

    Returns:
        Indices of the segments of each pass.
    """
    forwards: list[list[int]] = []
    used = batch_tokens
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not forwards or used + lengths[index] > batch_tokens:
            forwards.append([])
            used = 0
        forwards[-1].append(index)
        used += lengths[index]
    return forwards


@torch.no_grad()
def last_states(
    model: PreTrainedModel, segments: Sequence[Sequence[int]], counts: Sequence[int], *, row_tokens: int = 0, filler: int = 0
) -> Tensor:
    """Run the model's body over one row of segments.

    Args:
        model: A causal LM with document attention, in eval mode.
        segments: Token ids of each segment.
        counts: How many of its last positions are wanted of each.
        row_tokens: Tokens of the row; a shorter one is filled up with `filler`, as compiled layers need it.
        filler: Token id.

    Returns:
        Hidden states [sum of counts, H], in the order of the segments.
    """
    device = model.device
    lengths = [len(segment) for segment in segments]
    missing = max(0, row_tokens - sum(lengths))
    ids = torch.tensor([*chain.from_iterable(segments), *[filler] * missing], device=device)
    states = hidden_states(model, ids, lengths + filler_lengths(missing))
    sizes, wanted = torch.tensor(lengths), torch.tensor(counts)
    starts = sizes.cumsum(0) - wanted
    # Position p of the result is place p of all wanted ones before it, moved to where its segment's wanted places start.
    places = torch.arange(int(wanted.sum())) + (starts - (wanted.cumsum(0) - wanted)).repeat_interleave(wanted)
    return states[places.to(device)]


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
