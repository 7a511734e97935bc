"""Stage `tokenize`: turn text into token ids, with a separator after every document and, if configured, a BOS before it.

Flow: the `tokenizer.json` of an imported base -> `resolve_tokenizer` (driver) -> one JSON file ->
`Encoder.load` (worker) -> `Encoder.encode`: texts in, a flat array of ids and the length of each document out. Memory: the
tokens of one unit, 2 or 4 bytes each; the engine's objects (about 100 bytes per token) for `_BATCH_CHARACTERS` of text, or for
the longest span of a document without a safe cut; and a cache of about 50 MB of words and their ids.

Guarantee: the ids of a document are those of `tokenizer(text, add_special_tokens=False, split_special_tokens=True)`, between
BOS and separator: a text that spells a control token is encoded as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from cpt_ray.edges.storage import hash_bytes
from cpt_ray.errors import DataError
from cpt_ray.records import TextTokens

_BATCH_CHARACTERS = 1 << 20
_KNOWN_WORDS = 1 << 18
_LONGEST_KNOWN = 64
_CUT = re.compile(r" (?<=\S )")
"""A space after a non-whitespace character; starts with the literal space so that the search is fast."""
_UINT16_VOCABULARY = 1 << 16
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORD_PATTERNS = frozenset(
    {
        # GPT-2, SmolLM2, Llama 3 and cl100k, Qwen 2 and 3, o200k (gpt-oss), Tekken (Mistral)
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        *(
            rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            for digits in (r"\p{N}{1,3}", r"\p{N}")
        ),
        *(
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{tail}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{tail}|{digits}|"
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            for tail, digits in ((f"{_CONTRACTIONS}?", r"\p{N}{1,3}"), ("", r"\p{N}"))
        ),
    }
)
"""Split patterns without lookbehind, none of whose matches contains a space after another character."""

Tokens = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class ResolvedTokenizer:
    """A tokenizer as resolved by transformers: the engine's JSON, its hash, and the ids around a document."""

    definition: str
    sha256: str
    separator_id: int
    bos_id: int | None


@dataclass(frozen=True)
class ModelTokenizer:
    """The tokenizer of a model, and the special tokens around its documents."""

    folder: Path
    """Hugging Face folder with a fast tokenizer."""
    tokens: TextTokens
    vocabulary_size: int
    """Rows of the model's embedding; it may be padded beyond the tokenizer's ids."""
    control: tuple[str, ...] = ()
    """Added tokens that no text may produce, besides those that the tokenizer declares special."""


def token_dtype(vocabulary_size: int) -> str:
    """The narrowest unsigned type that holds every id."""
    return "uint16" if vocabulary_size <= _UINT16_VOCABULARY else "uint32"


def resolve_tokenizer(model: ModelTokenizer) -> ResolvedTokenizer:
    """Read a tokenizer's definition and check that it fits the model.

    Returns:
        The tokenizer, with padding and truncation off, and control tokens declared special.

    Raises:
        DataError: If there is no fast tokenizer, a text can produce an id outside the embedding, or separator or BOS is not a
            single token inside it.
    """
    path = model.folder / "tokenizer.json"
    try:
        engine = Tokenizer.from_file(str(path))
    except Exception as error:  # the engine raises nothing narrower
        raise DataError(
            f"{model.folder}: no fast tokenizer: {str(error).splitlines()[0]}",
            fix="point the model's base at a Hugging Face folder that holds tokenizer.json",
        ) from None
    engine.no_padding()
    engine.no_truncation()
    definition: dict[str, Any] = json.loads(engine.to_str())
    around = {model.tokens.separator, model.tokens.bos} - {None}
    for token in definition["added_tokens"]:
        token["special"] = token["special"] or token["content"] in model.control or token["content"] in around
    ids = {name: _one_token(engine, model.folder, name, token) for name, token in model.tokens if token is not None}
    control = control_ids(definition)
    largest = max(*ids.values(), *(number for number in engine.get_vocab().values() if number not in control), 0)
    if largest >= model.vocabulary_size:
        raise DataError(
            f"{model.folder}: the tokenizer has ids up to {largest}, but the model's vocabulary is {model.vocabulary_size}",
            fix="use the tokenizer that came with the model",
        )
    text = json.dumps(definition, ensure_ascii=False)
    return ResolvedTokenizer(text, hash_bytes(text.encode()), separator_id=ids["separator"], bos_id=ids.get("bos"))


def control_ids(definition: dict[str, Any]) -> frozenset[int]:
    """The ids that no text may produce: special tokens, except the one for text that the vocabulary lacks."""
    unknown = definition["model"].get("unk_token")
    return frozenset(token["id"] for token in definition["added_tokens"] if token["special"] and token["content"] != unknown)


def control_spellings(definition: dict[str, Any]) -> re.Pattern[str] | None:
    """A pattern that finds the control tokens a text spells; None if there are none."""
    ids = control_ids(definition)
    names = sorted((token["content"] for token in definition["added_tokens"] if token["id"] in ids), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names))) if names else None


def _one_token(engine: Tokenizer, path: Path, name: str, token: str) -> int:
    found = engine.token_to_id(token)
    if found is None:
        raise DataError(
            f"{path}: the {name} {token!r} is not a single token of this tokenizer",
            fix=f"set the model's {name} to a special token that tokenizer_config.json or config.json names",
        )
    return int(found)


@dataclass(frozen=True)
class Encoder:
    """Encodes documents; created by `load`.

    If the tokenizer's definition guarantees that a cut before a space changes no ids (`cuts_at_spaces`), documents are cut
    there: the text between two cuts is encoded once and then looked up, and no document is too long. Otherwise they are
    encoded whole.
    """

    engine: Tokenizer
    separator_id: int
    bos_id: int | None
    dtype: str
    may_cut: bool
    batch_characters: int = _BATCH_CHARACTERS
    known: dict[str, bytes] = field(default_factory=dict)
    """Words without their leading space, and their ids with it."""

    @classmethod
    def load(cls, path: Path, *, separator_id: int, bos_id: int | None, dtype: str) -> Encoder:
        """Load the JSON of a `ResolvedTokenizer`.

        Args:
            path: The file.
            separator_id: Id written after each document.
            bos_id: Id written before each document, or None.
            dtype: `uint16` or `uint32`.
        """
        definition = path.read_text(encoding="utf-8")
        may_cut = cuts_at_spaces(json.loads(definition))
        engine = Tokenizer.from_str(definition)
        engine.encode_special_tokens = True  # text that spells a special token stays text; not part of the JSON
        return cls(engine, separator_id, bos_id, dtype, may_cut)

    def encode(self, texts: Sequence[str]) -> tuple[Tokens, npt.NDArray[np.int64]]:
        """Encode documents in canonical order.

        Returns:
            Flat ids[sum of lengths], and lengths int64[documents], including BOS and separators.
        """
        before = b"" if self.bos_id is None else np.array([self.bos_id], self.dtype).tobytes()
        separator = np.array([self.separator_id], self.dtype).tobytes()
        flat: list[bytes] = []
        lengths = np.zeros(len(texts), dtype=np.int64)
        for batch in self._batches(texts):
            for (document, _, last), ids in zip(batch, self._ids([text for _, text, _ in batch]), strict=True):
                start = b"" if lengths[document] else before
                flat += (start, ids, separator if last else b"")
                lengths[document] += sum(map(len, flat[-3:]))
        return np.frombuffer(bytearray().join(flat), dtype=self.dtype), lengths // np.dtype(self.dtype).itemsize

    def _ids(self, texts: Sequence[str]) -> list[bytes]:
        """The ids of each text; the text between two cuts is looked up, or encoded and cached if it is short."""
        known = self.known
        if len(known) > _KNOWN_WORDS:
            known.clear()
        pieces = [_CUT.split(text) if self.may_cut else [text] for text in texts]
        firsts = [of_text.pop(0) for of_text in pieces]  # not preceded by a cut: keeps its space, if any
        new = list(set().union(*pieces).difference(known))
        encodings = self.engine.encode_batch_fast([*firsts, *(f" {word}" for word in new)], add_special_tokens=False)
        encoded = [np.array(encoding.ids, self.dtype).tobytes() for encoding in encodings]
        known.update(zip(new, encoded[len(firsts) :], strict=True))
        ids = [first + b"".join(map(known.__getitem__, words)) for first, words in zip(encoded, pieces, strict=False)]
        for word in new:
            if len(word) > _LONGEST_KNOWN:
                del known[word]
        return ids

    def _batches(self, texts: Sequence[str]) -> Iterator[list[tuple[int, str, bool]]]:
        """Pieces of documents, about `batch_characters` at a time: (document, text, whether it is the document's last)."""
        batch: list[tuple[int, str, bool]] = []
        room = self.batch_characters
        for document, text in enumerate(texts):
            for start, end in self._pieces(text):
                batch.append((document, text[start:end], end == len(text)))
                room -= end - start
                if room <= 0:
                    yield batch
                    batch, room = [], self.batch_characters
        if batch:
            yield batch

    def _pieces(self, text: str) -> Iterator[tuple[int, int]]:
        start = 0
        while self.may_cut and len(text) - start > self.batch_characters:
            end = _safe_cut(text, start, start + self.batch_characters)
            if end is None:
                break
            yield start, end
            start = end
        yield start, len(text)


def _safe_cut(text: str, start: int, wanted: int) -> int | None:
    """A space after a non-whitespace character: the last one before `wanted`, else the first one after it, or None."""
    at = text.rfind(" ", start + 1, wanted)
    while at > start and text[at - 1].isspace():
        at = text.rfind(" ", start + 1, at)
    if at > start:
        return at
    found = _CUT.search(text, max(wanted, start + 1))
    return found.start() if found else None


def cuts_at_spaces(definition: dict[str, Any]) -> bool:
    """Whether a text can be cut before any space that follows a non-whitespace character without changing its ids.

    True only if the tokenizer consists of parts for which this is proven; the argument, part by part: A model sees one
    pre-token at a time. Normalization (NFC, NFD) never joins a space with the preceding character. Added tokens that contain no
    space and absorb none around them cannot span the cut. One pre-tokenizer must split there regardless of context: the
    patterns of `_WORD_PATTERNS` have no lookbehind, none of their matches contains a space after a non-whitespace character,
    and they look ahead only within whitespace, so one match ends before the cut and the next begins at it. The others may
    split there, and look at nothing outside the pieces left by the splits so far.

    Args:
        definition: A tokenizer's JSON.
    """
    normalizer, pre = definition.get("normalizer"), definition.get("pre_tokenizer")
    steps = pre["pretokenizers"] if pre and pre["type"] == "Sequence" else [pre] if pre else []
    return (
        definition["model"].get("type") in ("BPE", "Unigram", "WordPiece", "WordLevel")
        and not definition["model"].get("dropout")
        and (normalizer is None or normalizer["type"] in ("NFC", "NFD"))
        and not any(_reaches_out(token) for token in definition.get("added_tokens", ()))
        and all(_splits(step) is not None for step in steps)
        and any(_splits(step) for step in steps)
    )


def _reaches_out(token: dict[str, Any]) -> bool:
    spaces = any(character.isspace() for character in token["content"])
    return spaces or token["lstrip"] or token["rstrip"] or token["single_word"]


def _splits(step: dict[str, Any]) -> bool | None:
    """Whether a pre-tokenizer always splits before a space that follows a non-whitespace character; None if unknown."""
    kind = step["type"]
    if kind == "ByteLevel":
        return bool(step.get("use_regex", True))
    if kind == "Split" and not step["invert"] and step["behavior"] == "Isolated":
        pattern = step["pattern"].get("Regex")
        return True if pattern in _WORD_PATTERNS else False if pattern in (r"\p{N}{1,3}", r"\p{N}", r"\d") else None
    if kind == "Metaspace":
        return True if step["split"] else None
    return {"Digits": False, "Punctuation": False, "WhitespaceSplit": True, "Whitespace": True, "BertPreTokenizer": True}.get(
        kind
    )
