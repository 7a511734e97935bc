"""Which part of a document is scored, and how many bytes it has: the same for a finished model and for one in training.

In: text. Out: token ids and the number of UTF-8 bytes that they spell.
"""

from __future__ import annotations

from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from cpt_ray.errors import DataError
from cpt_ray.records import DocumentKey


class EncodedDocument(NamedTuple):
    """A document cut to its scored tokens; `bytes` counts exactly the UTF-8 bytes that they spell."""

    key: DocumentKey
    tokens: list[int]
    bytes: int
    cut: bool = False
    """Whether the document goes on after them."""


def encode_document(
    tokenizer: PreTrainedTokenizerBase, key: DocumentKey, text: str, *, document_tokens: int
) -> EncodedDocument:
    """Tokenize a document and cut it to its first `document_tokens` tokens.

    Byte-level tokenizers split characters; a cut inside one moves back to the last whole character, so that tokens and
    bytes cover the same text.

    Raises:
        DataError: If no token is left to score.
    """
    # As in training, a text that spells a control token is text.
    encoding = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, truncation=False, verbose=False
    )
    tokens: list[int] = encoding["input_ids"]
    offsets: list[tuple[int, int]] = encoding["offset_mapping"]
    cut = min(document_tokens, len(tokens))
    # A piece of a character carries the offsets of the whole character, so the next token starts before this one ends.
    while 0 < cut < len(tokens) and offsets[cut][0] < offsets[cut - 1][1]:
        cut -= 1
    if cut == 0:
        raise DataError(
            f"held-out document {key.id!r} ({key.identity}) has no whole character within "
            f"evaluate.document_tokens={document_tokens} tokens",
            fix="raise evaluate.document_tokens, or drop empty documents with prepare.clean.min_bytes",
        )
    scored_text = text if cut == len(tokens) else text[: offsets[cut - 1][1]]
    return EncodedDocument(key, tokens[:cut], len(scored_text.encode()), cut < len(tokens))
