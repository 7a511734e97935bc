"""The rule sets `gopher_quality` and `gopher_repetition` (Rae et al. 2021, arXiv 2112.11446, appendix A.1 and table A1).

Part of stage `clean`. Words are tokens, so punctuation marks count in rules on a share of words; the number and the mean length
of words exclude them. Memory: the n-grams of the current document.

Guarantee: verdicts match datatrove's `GopherQualityFilter` and `GopherRepetitionFilter` at equal thresholds, except where the
tokens differ (`benchmarks/data/clean.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cpt_ray.config.sections.clean import GopherQualityRules, GopherRepetitionRules
from cpt_ray.data.clean.basic import symbols
from cpt_ray.data.clean.ngrams import TokenNgrams
from cpt_ray.data.clean.segment import is_mark
from cpt_ray.data.clean.view import TextView, above, below, outside, repeated
from cpt_ray.data.scripts import CHARACTERS_PER_WORD, has_unspaced
from cpt_ray.records import Dropped

_PARAGRAPH = re.compile(r"\n{2,}")
_LINE = re.compile(r"\n+")
_BULLETS = ("•", "-")
_ELLIPSES = ("...", "…")


def gopher_quality(view: TextView, rules: GopherQualityRules) -> Dropped | TextView:
    """Apply the set `gopher_quality`."""
    words, text = view.tokens, view.text
    counted = [word for word in words if word.isalnum() or not is_mark(word)]
    lengths = [len(word) for word in counted]
    if rules.min_words is not None and len(lengths) < rules.min_words:
        return Dropped("gopher_quality.min_words")
    if rules.max_words is not None and len(lengths) > rules.max_words:
        return Dropped("gopher_quality.max_words")
    if not view.unspaced and outside(_mean_length(counted, view), rules.mean_word_length):
        return Dropped("gopher_quality.mean_word_length")
    if above(symbols(text), rules.max_symbol_word_ratio, len(words)):
        return Dropped("gopher_quality.max_symbol_word_ratio")
    lines = text.splitlines()
    if above(sum(line.lstrip().startswith(_BULLETS) for line in lines), rules.max_bullet_line_share, len(lines)):
        return Dropped("gopher_quality.max_bullet_line_share")
    if above(sum(line.rstrip().endswith(_ELLIPSES) for line in lines), rules.max_ellipsis_line_share, len(lines)):
        return Dropped("gopher_quality.max_ellipsis_line_share")
    lettered = sum(word.isalpha() or any(map(str.isalpha, word)) for word in words)
    if below(lettered, rules.min_alphabetic_word_share, len(words)):
        return Dropped("gopher_quality.min_alphabetic_word_share")
    if rules.min_stop_words is not None and not _has_stop_words(view, rules.stop_words, rules.min_stop_words):
        return Dropped("gopher_quality.min_stop_words")
    return view


def _mean_length(words: Sequence[str], view: TextView) -> float:
    if view.has_unspaced:
        words = [word for word in words if not has_unspaced(word)]
    return sum(map(len, words)) / max(len(words), 1)


def _has_stop_words(view: TextView, stop_words: Sequence[str], least: int) -> bool:
    """Whether a text has enough stop words; without spaces, those of its script are looked for anywhere, and others nowhere."""
    if not view.unspaced:
        return len({*stop_words}.intersection(view.tokens)) >= least
    own = [word for word in stop_words if has_unspaced(word)]
    return not own or sum(word in view.text for word in own) >= least


def gopher_repetition(view: TextView, rules: GopherRepetitionRules) -> Dropped | TextView:
    """Apply the set `gopher_repetition`."""
    text = view.text
    paragraphs, lines = _PARAGRAPH.split(text.strip()), _LINE.split(text)
    count, characters = repeated(paragraphs)
    if above(count, rules.max_duplicate_paragraph_share, len(paragraphs)):
        return Dropped("gopher_repetition.max_duplicate_paragraph_share")
    if above(characters, rules.max_duplicate_paragraph_character_share, len(text)):
        return Dropped("gopher_repetition.max_duplicate_paragraph_character_share")
    count, characters = repeated(lines)
    if above(count, rules.max_duplicate_line_share, len(lines)):
        return Dropped("gopher_repetition.max_duplicate_line_share")
    if above(characters, rules.max_duplicate_line_character_share, len(text)):
        return Dropped("gopher_repetition.max_duplicate_line_character_share")
    ngrams = TokenNgrams(view.tokens, spaces=not view.unspaced)
    # Without spaces n words are n times as many characters: five characters in a row recur as a name does.
    each = CHARACTERS_PER_WORD if view.unspaced else 1
    for size, share in (rules.max_top_ngram_share or {}).items():
        if ngrams.top_characters(size * each) > share * len(text):
            return Dropped(f"gopher_repetition.max_top_ngram_share.{size}")
    for place, (size, share) in enumerate(sorted((rules.max_duplicate_ngram_share or {}).items())):
        # If the shortest n-grams do not repeat, no longer ones do; most documents end here.
        if place == 0 and not ngrams.any_repeats(size * each):
            break
        if ngrams.duplicates_exceed(size * each, share * len(text)):
            return Dropped(f"gopher_repetition.max_duplicate_ngram_share.{size}")
    return view
