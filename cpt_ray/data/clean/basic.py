"""Rules that suit any corpus: language, size, and the set `basic`.

Part of stage `clean`. The thresholds are in `prepare.clean`; a threshold of null disables its rule.

Guarantee: a rule looks only at the document and its setting, so its verdict never depends on the rest of the corpus.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cpt_ray.config.sections.clean import BasicRules, CleanConfig
from cpt_ray.data.clean.view import TextView, above, below, outside
from cpt_ray.records import Dropped

_LETTER = re.compile(r"[^\W\d_]")


def unwanted_language(view: TextView, allowed: tuple[str, ...]) -> bool:
    """Whether a document has a known language that is not allowed; `en-GB` counts as `en`."""
    code = view.document.language
    return code is not None and code not in allowed and code.replace("_", "-").split("-")[0].lower() not in allowed


def size(view: TextView, config: CleanConfig) -> Dropped | TextView:
    """Apply the minimum and maximum size in bytes."""
    if config.min_bytes is not None and view.num_bytes < config.min_bytes:
        return Dropped("min_bytes")
    if config.max_bytes is not None and view.num_bytes > config.max_bytes:
        return Dropped("max_bytes")
    return view


def basic(view: TextView, rules: BasicRules) -> Dropped | TextView:
    """Apply the set `basic`."""
    lines, words = view.lines, view.words
    if above(len(lines) - len(set(lines)), rules.max_repeated_line_share, len(lines)):
        return Dropped("basic.max_repeated_line_share")
    if above(symbols(view.text), rules.max_symbol_word_ratio, len(words)):
        return Dropped("basic.max_symbol_word_ratio")
    lettered = sum(word.isalpha() or _LETTER.search(word) is not None for word in words)
    if below(lettered, rules.min_alphabetic_word_share, len(words)):
        return Dropped("basic.min_alphabetic_word_share")
    if not view.unspaced and outside(_mean_length(view.spaced_words), rules.mean_word_length):
        return Dropped("basic.mean_word_length")
    return view


def _mean_length(words: Sequence[str]) -> float:
    return sum(map(len, words)) / max(len(words), 1)


def symbols(text: str) -> int:
    """Number of hash signs or ellipses in a text, whichever is larger."""
    return max(text.count("#"), text.count("...") + text.count("…"))
