"""Bits per byte: each held-out document is scored independently, by the same rule for the base and every run.

In: JSON lines {identity, id, text}. Out: per document {identity, id, nats, tokens, bytes}, and their aggregate. The rule is
lm-eval's `loglikelihood_rolling` with `context_len=1`: a prefix token precedes the document, so that the first token is scored
too; the first window scores up to `context` tokens, later ones the next `context` (the last with as much context as fits).
Many windows share one forward pass as segments that cannot attend to each other. Guarantee: a document's score does not depend
on what it is packed with. Memory: the tokens of the selected documents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.errors import DataError
from cpt_ray.evaluate import intervals
from cpt_ray.evaluate.intervals import Floats
from cpt_ray.evaluate.packed import last_states, plan_forwards
from cpt_ray.evaluate.per_item import ScoredDocument
from cpt_ray.model.scoring import EncodedDocument
from cpt_ray.records import DocumentKey, HeldOutScore, HeldOutSet

_HELD_OUT_FIX = "run `cpt-ray prepare` again to redraw the held-out sets"


class Window(NamedTuple):
    """One segment to score: `labels` are the next tokens at the last `len(labels)` positions of `inputs`."""

    document: int
    inputs: list[int]
    labels: list[int]


def read_documents(path: Path, limit: int) -> list[tuple[DocumentKey, str]]:
    """Read name and text of the first `limit` documents; the file is already in hash order, so this is a random sample.

    Raises:
        DataError: If a line is not {identity, id, text}, or the file has fewer than two documents.
    """
    documents: list[tuple[DocumentKey, str]] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(islice(lines, limit), start=1):
                try:
                    fields = json.loads(line)
                    documents.append((DocumentKey(str(fields["identity"]), str(fields["id"])), str(fields["text"])))
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(
                        f"{path}, line {number}: not a JSON object with identity, id and text", fix=_HELD_OUT_FIX
                    ) from error
    except OSError as error:
        raise DataError(f"{path}: held-out set cannot be read: {error.strerror}", fix=_HELD_OUT_FIX) from error
    if len(documents) < 2:
        raise DataError(
            f"{path}: {len(documents)} held-out documents; scores need at least 2",
            fix="raise prepare.held_out.share, or give the source more text",
        )
    return documents


def rolling_windows(tokens: Sequence[int], *, prefix: int, context: int) -> Iterator[tuple[list[int], list[int]]]:
    """Split a document into (inputs, labels); labels are the next tokens at the last `len(labels)` positions.

    Same as lm-eval's `get_rolling_token_windows(max_seq_len=context, context_len=1)`; every token is a label exactly once.
    """
    stream = [prefix, *tokens]
    for start in range(0, len(tokens), context):
        end = min(start + context, len(tokens))
        yield stream[max(0, end - context) : end], stream[start + 1 : end + 1]


@torch.no_grad()
def score_documents(
    model: PreTrainedModel,
    documents: Sequence[EncodedDocument],
    *,
    prefix: int,
    context: int,
    batch_tokens: int,
    row_tokens: int | None = None,
) -> list[ScoredDocument]:
    """Score each document independently.

    Args:
        model: A model from `model.base.load_model`: document attention, loss head, eval mode.
        documents: Documents to score.
        prefix: Token id that precedes each document.
        context: Maximum input tokens per window.
        batch_tokens: Maximum input tokens per forward pass.
        row_tokens: Input tokens of every forward pass, for compiled layers: a shorter pass is filled up. None: as they come.

    Returns:
        One score per document, in order.
    """
    windows = [
        Window(index, inputs, labels)
        for index, document in enumerate(documents)
        for inputs, labels in rolling_windows(document.tokens, prefix=prefix, context=context)
    ]
    head: Any = model.get_output_embeddings()
    # Logits are more than half of the work at this size, so they are computed for scored positions only.
    passes = plan_forwards([len(window.inputs) for window in windows], batch_tokens)
    found = []
    for group in passes:
        parts = [windows[index] for index in group]
        counts = [len(window.labels) for window in parts]
        states = last_states(model, [window.inputs for window in parts], counts, row_tokens=row_tokens or 0, filler=prefix)
        labels = torch.tensor([*chain.from_iterable(window.labels for window in parts)], device=states.device)
        found.append(head(states, labels, per_token=True))
    nats: list[list[float]] = [[] for _ in documents]
    # Fetched after all passes: a GPU would wait for each. fp64 before summing: a document has hundreds of tokens, and paired
    # differences are in the fourth digit.
    for group, values in zip(passes, found, strict=True):
        lengths = [len(windows[index].labels) for index in group]
        for index, part in zip(group, values.double().cpu().split(lengths), strict=True):
            nats[windows[index].document].append(float(part.sum()))
    return [
        ScoredDocument(*document.key, sum(parts), len(document.tokens), document.bytes, cut=document.cut)
        for document, parts in zip(documents, nats, strict=True)
    ]


def aggregate(
    scores: Sequence[ScoredDocument], *, held_out: HeldOutSet, documents_path: str, compare: CompareConfig
) -> HeldOutScore:
    """Pool the documents: bits per byte = sum of nats / ln 2 / sum of bytes, perplexity per token, their intervals.

    Raises:
        DataError: If a score is not finite.
    """
    for score in scores:
        if not np.isfinite(score.nats):
            raise DataError(
                f"document {score.id!r} ({score.identity}) of {held_out.source} scored {score.nats} nats",
                fix="the weights contain NaN or infinity: check the run's loss, or score with evaluate.precision=fp32",
            )
    nats, tokens, num_bytes = (
        np.array([getattr(score, name) for score in scores], dtype=np.float64) for name in ("nats", "tokens", "bytes")
    )

    def over_documents(weights: Floats) -> intervals.Estimate:
        random = intervals.generator(compare.seed, f"held_out/{held_out.source}/{held_out.part}")
        return intervals.estimate(nats[None], weights, samples=compare.subsets, random=random)

    per_byte, per_token = over_documents(num_bytes * math.log(2)), over_documents(tokens)
    kind = "over documents"
    token_interval = per_token.interval(compare.confidence, kind)
    return HeldOutScore(
        source=held_out.source,
        role=held_out.role,
        part=held_out.part,
        documents=len(scores),
        cut_documents=sum(score.cut for score in scores),
        scored_tokens=int(tokens.sum()),
        scored_bytes=int(num_bytes.sum()),
        nats=float(nats.sum()),
        bits_per_byte=per_byte.value,
        bits_per_byte_interval=per_byte.interval(compare.confidence, kind),
        perplexity=math.exp(per_token.value),
        perplexity_interval=token_interval
        and token_interval.model_copy(update={"low": math.exp(token_interval.low), "high": math.exp(token_interval.high)}),
        documents_path=documents_path,
    )
