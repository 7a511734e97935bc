"""Words and sentences as the published filters count them: punctuation marks are separate words.

Part of stage `clean`. Text in, tokens out. Gopher and FineWeb count words without saying how they are segmented; datatrove uses
spaCy's tokenizer for English, and thresholds are tuned on it. This is a small tokenizer with the same behavior: marks around a
word, hyphens and slashes inside it, and `'s` or `n't` at its end are tokens; addresses, numbers and abbreviations stay whole.
How often a verdict differs from theirs is measured in `benchmarks/data/clean.py`. In scripts without spaces each character with
its marks is a token. Memory: the pieces of at most 65,536 strings
without whitespace.

Guarantee: the tokens of a text, joined, are the text without its whitespace.
"""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from collections.abc import Sequence

from cpt_ray.data.scripts import LETTER_CLASS, MARK_CLASS, has_unspaced

_QUOTES = "'\"”“`‘´’‚„»«"
_MARKS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪「」『』（）〔〕【】《》〈〉" + _QUOTES
_BEFORE = _MARKS + "§%=—–$£€¥©®™°•■●▪►→\ufffd"
_AFTER = frozenset(_MARKS + "—–©®™°•■●▪►→\ufffd")
_ADDRESS = re.compile(
    r"(?:[\w+.-]{2,}://)?(?:\S+@)?(?:[A-Za-z0-9\u00a1-\uffff][\w\u00a1-\uffff-]*\.)+[a-z]{2,63}(?::\d{2,5})?(?:[/?#]\S*)?"
)
_ABBREVIATIONS = frozenset(
    f"{word}."
    for words in (
        "Mr Mrs Ms Dr Prof St Jr Inc Ltd Co co Corp Bros Messrs vs v.s e.g E.g E.G i.e I.e I.E a.m p.m Ph.D D.C Adm Gen Gov",
        "Rep Rev Sen Mt Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Calif Mass Wash Ill Ind Pa Va Md Mo Ga La Fla Ariz",
        "Conn Del Mich Minn Miss Mont Tenn Wis Ore N.Y N.J N.C S.C",
    )
    for word in words.split()
)
_LONGEST_ABBREVIATION = max(map(len, _ABBREVIATIONS))
_WHOLE = frozenset({"and/or", "w/o", "C++"})
_WORD_END = 3
"""Characters that `_ENDS_WORD` looks at."""
_ENDS_WORD = re.compile(rf"(?:[a-zß-öø-ÿ0-9%²+\-{re.escape(_MARKS)}]|[^\W\d_a-z]{{2}})\.\Z")
_LETTER = re.compile(r"[a-zäöü]\.")
_CONTRACTION = re.compile(r"(?<=[\w.])(n['’]t|['’](?:s|S|re|ve|ll|d|m))\Z")
_INSIDE = re.compile(
    r"(\.{2,}|…|[©®™°\ufffd]"
    r"|(?<=[0-9])[+*^-](?=[0-9-])"
    r"|(?<=[a-zß-öø-ÿ'\"”’])\.(?=[A-ZÀ-ÖØ-Þ'\"“‘])"
    r"|(?<=[^\W\d_]),(?=[^\W\d_])"
    r"|(?<=[^\W_])(?:---?|——?|–|-|~|[:<>=/])(?=[^\W\d_]))"
)
_NUMBER_AND_UNIT = re.compile(
    r"([0-9]+(?:[.,][0-9]+)*)(km|cm|mm|kg|mg|ft|in|lb|oz|mph|MB|KB|kb|GB|TB|mb|m|g|t|T|G|M|K|%|\$|€|£|¥|am|pm)\Z"
)
_ENDS = frozenset("!.?։؟۔।॥\u104b\u17d4\u17d5。！．？｡‼‽⁇⁈⁉")
_ASCII_MARKS = frozenset(string.punctuation)
_CACHED = 64
_PARTS = re.compile(rf"[{LETTER_CLASS}][{MARK_CLASS}]*|[^{LETTER_CLASS}]+")


def tokens(text: str) -> list[str]:
    """Split a text into words and punctuation marks."""
    result: list[str] = []
    if has_unspaced(text):
        return [piece for chunk in text.split() for part in _PARTS.findall(chunk) for piece in _part(part)]
    for chunk in text.split():
        if chunk.isalpha():
            result.append(chunk)
        else:
            result.extend(_cached_pieces(chunk) if len(chunk) <= _CACHED else _pieces(chunk))
    return result


def _part(part: str) -> Sequence[str]:
    """The tokens of a part of a string: a character of a script without spaces is one."""
    return (part,) if has_unspaced(part) else _cached_pieces(part) if len(part) <= _CACHED else _pieces(part)


def _pieces(chunk: str) -> tuple[str, ...]:
    """The tokens of a string without whitespace."""
    core = chunk.lstrip(_BEFORE)
    before = _marks(chunk[: len(chunk) - len(core)])
    runs: list[str] = []
    # An end that moves, in place of a string that is cut: it can take a step per character.
    end = len(core)
    while (start := _last_run(core, end)) < end:
        runs.append(core[start:end])
        end = start
    return (*before, *_inside(core[:end]), *(mark for run in reversed(runs) for mark in _marks(run)))


def _last_run(core: str, end: int) -> int:
    """Where the marks before `end` begin that are no part of the word in front of them; `end` if there are none."""
    last = core[end - 1 : end]
    if last in _AFTER or core.endswith("..", 0, end):
        marks = "." if last == "." else _AFTER
        start = end - 1
        while start and core[start - 1] in marks:
            start -= 1
        return start
    if last == "+":
        return end - 1 if core[end - 2 : end - 1].isdigit() else end
    if last == "." and _ENDS_WORD.search(core, max(end - _WORD_END, 0), end):
        return end if end <= _LONGEST_ABBREVIATION and _is_abbreviation(core[:end]) else end - 1
    return end


_cached_pieces = functools.lru_cache(maxsize=1 << 16)(_pieces)


def _marks(run: str) -> list[str]:
    return re.findall(r"\.{2,}|…+|''|.", run) if run else []


def _is_abbreviation(word: str) -> bool:
    return word in _ABBREVIATIONS or _LETTER.fullmatch(word) is not None


def _inside(core: str) -> list[str]:
    if not core:
        return []
    if core in _WHOLE or _ADDRESS.fullmatch(core):
        return [core]
    found = _CONTRACTION.search(core) or _NUMBER_AND_UNIT.fullmatch(core)
    if found is not None:
        start = found.start(1) if found.re is _CONTRACTION else found.start(2)
        body = core[:start]
        body = body.removesuffix(".") if _ENDS_WORD.search(body) and not _is_abbreviation(body) else body
        return [piece for piece in (*_INSIDE.split(body), core[len(body) : start], core[start:]) if piece]
    return [piece for piece in _INSIDE.split(core) if piece]


def count_sentences(words: Sequence[str]) -> int:
    """Count sentences in tokens: one ends at `.`, `!` or `?` if anything but punctuation follows."""
    count, ended = int(bool(words)), False
    for word in words:
        if word in _ENDS:
            ended = True
        elif ended and not is_punctuation(word):
            count += 1
            ended = False
    return count


@functools.lru_cache(maxsize=1 << 12)
def is_punctuation(word: str) -> bool:
    """Whether a token consists only of punctuation marks."""
    return all(unicodedata.category(character).startswith("P") for character in word)


@functools.lru_cache(maxsize=1 << 16)
def is_mark(word: str) -> bool:
    """Whether a token consists only of punctuation, control characters and ASCII symbols such as `+`, `$` and `=`."""
    return all(character in _ASCII_MARKS or unicodedata.category(character)[0] in "PC" for character in word)
