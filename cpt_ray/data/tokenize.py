"""Stage `tokenize`: text becomes token ids, with a separator after every document.

Flow: a Hugging Face tokenizer folder -> `resolve_tokenizer` (driver; the only import of transformers) -> one JSON file ->
`load_encoder` (worker) -> `encode`: texts in, a flat array of ids and the length of each document out. Memory: the tokens of
one unit, 2 or 4 bytes each, and the engine's own objects for one batch of documents.

Guarantee: the ids of a document are those of `tokenizer(text, add_special_tokens=False)`, followed by one separator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from cpt_ray.edges.storage import hash_bytes
from cpt_ray.errors import DataError

_BATCH_CHARACTERS = 1 << 20
_UINT16_VOCABULARY = 1 << 16

Tokens = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class ResolvedTokenizer:
    """A tokenizer as transformers resolves it: the engine's own JSON, its hash, and the separator's id."""

    definition: str
    sha256: str
    separator_id: int


def token_dtype(vocabulary_size: int) -> str:
    """The narrowest unsigned type that holds every id."""
    return "uint16" if vocabulary_size <= _UINT16_VOCABULARY else "uint32"


def check_vocabulary(tokenizer_path: Path, vocabulary_size: int, separator: str) -> ResolvedTokenizer:
    """Load a tokenizer folder and check that it fits the model.

    Args:
        tokenizer_path: Hugging Face folder with a fast tokenizer.
        vocabulary_size: Rows of the model's embedding; it may be padded beyond the tokenizer's ids.
        separator: The token written after each document.

    Returns:
        The tokenizer, with padding and truncation off.

    Raises:
        DataError: If there is no fast tokenizer, an id lies outside the embedding, or the separator is not one token.
    """
    from transformers import AutoTokenizer  # seconds to import, and the workers never need it

    try:
        engine = AutoTokenizer.from_pretrained(str(tokenizer_path), local_files_only=True).backend_tokenizer
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{tokenizer_path}: no fast tokenizer: {str(error).splitlines()[0]}",
            fix="point the model's base at a Hugging Face folder that holds tokenizer.json",
        ) from None
    largest = max(engine.get_vocab(with_added_tokens=True).values())
    if largest >= vocabulary_size:
        raise DataError(
            f"{tokenizer_path}: the tokenizer has ids up to {largest}, but the model's vocabulary is {vocabulary_size}",
            fix="use the tokenizer that came with the model",
        )
    separator_id = engine.token_to_id(separator)
    if separator_id is None:
        raise DataError(
            f"{tokenizer_path}: the separator {separator!r} is not one token of this tokenizer",
            fix="set the model's separator to its end-of-text token, as tokenizer_config.json or config.json name it",
        )
    engine.no_padding()
    engine.no_truncation()
    definition = engine.to_str()
    return ResolvedTokenizer(definition=definition, sha256=hash_bytes(definition.encode()), separator_id=int(separator_id))


def load_encoder(path: Path) -> Tokenizer:
    """Load the JSON of a `ResolvedTokenizer`."""
    return Tokenizer.from_file(str(path))


def encode(tokenizer: Tokenizer, texts: Sequence[str], separator_id: int, dtype: str) -> tuple[Tokens, npt.NDArray[np.int64]]:
    """Encode documents, each followed by the separator.

    Long documents are never cut: a border that keeps the ids is not knowable from outside the engine.

    Args:
        tokenizer: The engine.
        texts: Texts in canonical order.
        separator_id: Id written after each document.
        dtype: `uint16` or `uint32`.

    Returns:
        Flat ids[sum of lengths], and lengths int64[documents], separators included.
    """
    pieces: list[Tokens] = [np.empty(0, dtype=dtype)]
    lengths: list[int] = []
    for batch in _batches(texts):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            ids = encoding.ids
            ids.append(separator_id)
            pieces.append(np.array(ids, dtype=dtype))
            lengths.append(len(ids))
    return np.concatenate(pieces), np.array(lengths, dtype=np.int64)


def _batches(texts: Sequence[str]) -> list[list[str]]:
    batches: list[list[str]] = []
    room = 0
    for text in texts:
        if room <= 0:
            batches.append([])
            room = _BATCH_CHARACTERS
        batches[-1].append(text)
        room -= len(text)
    return batches
