"""The rule sets `fineweb` (Penedo et al. 2024, arXiv 2406.17557, section 3.6) and `education` (Faroz 2025, arXiv 2504.09687).

Part of stage `clean`. Memory: the lines and tokens of the current document.

Guarantee: verdicts of `fineweb` match datatrove's `FineWebQualityFilter` at equal thresholds, except where the tokens differ
(`benchmarks/data/clean.py`). Of the education paper's rules, only "fewer than three lines" has a published threshold.
"""

from __future__ import annotations

import functools

import regex

from cpt_ray.config.sections.clean import EducationRules, FineWebRules
from cpt_ray.data.clean.repetition import repetition
from cpt_ray.data.clean.view import TextView, above, below, repeated
from cpt_ray.data.scripts import line_width
from cpt_ray.records import Dropped

_SENTENCE_TERMINAL = regex.compile(r"\p{Sentence_Terminal}")


def fineweb(view: TextView, rules: FineWebRules) -> Dropped | TextView:
    """Apply the set `fineweb`."""
    lines = [line for line in view.text.split("\n") if line.strip()]
    ended = sum(_ends_sentence(line[-1]) for line in lines)
    short = sum(line_width(line) <= rules.short_line_characters for line in lines)
    breaks = view.text.count("\n")
    if not view.has_no_full_stop and below(ended, rules.min_punctuated_line_share, len(lines)):
        return Dropped("fineweb.min_punctuated_line_share")
    if above(short, rules.max_short_line_share, len(lines)):
        return Dropped("fineweb.max_short_line_share")
    if above(repeated(lines)[1], rules.max_duplicate_line_character_share, len(view.text) - breaks):
        return Dropped("fineweb.max_duplicate_line_character_share")
    if rules.max_line_word_ratio is not None and breaks > rules.max_line_word_ratio * len(view.tokens):
        return Dropped("fineweb.max_line_word_ratio")
    return view


@functools.lru_cache(maxsize=1 << 12)
def _ends_sentence(character: str) -> bool:
    return _SENTENCE_TERMINAL.match(character) is not None


def education(view: TextView, rules: EducationRules) -> Dropped | TextView:
    """Apply the set `education`."""
    lines = view.lines
    short = sum(line_width(line) < rules.short_line_characters for line in lines)
    if rules.min_lines is not None and len(lines) < rules.min_lines:
        return Dropped("education.min_lines")
    if above(short, rules.max_short_line_share, len(lines)):
        return Dropped("education.max_short_line_share")
    if above(len(lines) - len(set(lines)), rules.max_repeated_line_share, len(lines)):
        return Dropped("education.max_repeated_line_share")
    if rules.max_repetition is not None and repetition([view.text])[0] > rules.max_repetition:
        return Dropped("education.max_repetition")
    return view
