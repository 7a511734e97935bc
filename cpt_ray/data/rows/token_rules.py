"""Rules on a document's token ids: what only the tokenizer reveals about a text.

Part of stage `tokenize`. The ids of a unit's documents in, a reason or None for each out. Text that the tokenizer was not made
for is split into single bytes; OCR noise, a table of dots or a base64 block shows up as one token repeated, or as tokens of one
or two bytes. Memory: a few times the ids of one unit.

Guarantee: only the ids of a document itself are examined, never those between documents.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cpt_ray.config.sections.clean import TokenRulesConfig

_UNIQUE_TOKENS = 1_000
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
Bools = npt.NDArray[np.bool_]


def unknown_ids(definition: str) -> frozenset[int]:
    """The ids for text outside a tokenizer's vocabulary: its unknown token, and single bytes if it falls back to them.

    Args:
        definition: The tokenizer's JSON. Byte-level tokenizers cover every text and have no such ids.
    """
    model: dict[str, Any] = json.loads(definition)["model"]
    vocabulary = model.get("vocab") or {}
    names = list(vocabulary) if isinstance(vocabulary, dict) else [name for name, _ in vocabulary]
    places = vocabulary if isinstance(vocabulary, dict) else {name: place for place, name in enumerate(names)}
    found = {places[name] for name in names if model.get("byte_fallback") and _BYTE.fullmatch(name)}
    unknown = model.get("unk_token") if model.get("unk_id") is None else names[model["unk_id"]]
    if unknown in places:
        found.add(places[unknown])
    return frozenset(found)


def judge_tokens(
    tokens: npt.NDArray[Any],
    lengths: npt.NDArray[np.int64],
    sizes: Sequence[int],
    config: TokenRulesConfig,
    *,
    unknown: frozenset[int],
    before: int,
    after: int,
) -> list[str | None]:
    """Apply every rule that is enabled.

    Args:
        tokens: Ids of all documents, concatenated.
        lengths: Number of ids of each document, int64[documents], including those added before and after it.
        sizes: UTF-8 bytes of each document.
        config: `prepare.token_rules`.
        unknown: Result of `unknown_ids`.
        before: Number of ids added before each document.
        after: Number of ids added after each document.

    Returns:
        For each document, the key of the first rule it violates, in the order of the section; None if it violates none.
    """
    if all(value is None for value in config.model_dump().values()):
        return [None] * len(lengths)  # the default: no pass over the tokens
    starts = np.cumsum(lengths) - lengths + before
    counts = lengths - before - after
    own = np.maximum(counts, 1)
    per_token = np.asarray(sizes) / own
    nobody: Bools = np.zeros(len(lengths), dtype=np.bool_)
    broken: dict[str, Bools] = {
        "min_bytes_per_token": nobody if config.min_bytes_per_token is None else per_token < config.min_bytes_per_token,
        "max_bytes_per_token": nobody if config.max_bytes_per_token is None else per_token > config.max_bytes_per_token,
        "max_unknown_share": nobody,
        "max_token_run": nobody,
        "min_unique_share": nobody,
    }
    inside = _inside(len(tokens), starts, counts)
    if config.max_unknown_share is not None:
        known_not = np.isin(tokens, list(unknown)) & inside
        total = np.concatenate([[0], np.cumsum(known_not)])
        broken["max_unknown_share"] = (total[starts + counts] - total[starts]) / own > config.max_unknown_share
    if config.max_token_run is not None:
        broken["max_token_run"] = longest_runs(tokens, inside, starts) > config.max_token_run
    if config.min_unique_share is not None:
        shares = [
            len(np.unique(tokens[start : start + min(count, _UNIQUE_TOKENS)])) / max(1, min(count, _UNIQUE_TOKENS))
            for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
        ]
        broken["min_unique_share"] = np.array(shares) < config.min_unique_share
    rows = zip(*(mask.tolist() for mask in broken.values()), strict=True)
    keys = [f"token_rules.{key}" for key in broken]
    return [next(itertools.compress(keys, row), None) for row in rows]


def _inside(size: int, starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Bools:
    """Which ids belong to a document."""
    edges = np.zeros(size + 1, dtype=np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + counts, -1)
    return np.cumsum(edges[:-1]) > 0


def longest_runs(tokens: npt.NDArray[Any], inside: Bools, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The longest run of one token in each document, int64[documents]."""
    changes = np.ones(len(tokens), dtype=np.bool_)
    changes[1:] = (tokens[1:] != tokens[:-1]) | (inside[1:] != inside[:-1])
    changes[starts[starts < len(tokens)]] = True
    begins = np.flatnonzero(changes)
    runs = np.diff(np.concatenate([begins, [len(tokens)]]))
    runs[~inside[begins]] = 0
    owners = np.searchsorted(starts, begins, side="right") - 1
    longest = np.zeros(len(starts), dtype=np.int64)
    np.maximum.at(longest, np.maximum(owners, 0), runs)
    return longest
