"""The rule set `c4` (Raffel et al. 2020, arXiv 1910.10683, section 2.2, and the code of TensorFlow Datasets).

Part of stage `clean`. It edits: lines that do not read like sentences are removed, and the rest is the document. Memory: the
lines of the current document.

Guarantee: verdicts and text match datatrove's `C4QualityFilter` at equal settings, except where sentences are counted
differently (`benchmarks/data/clean.py`).
"""

from __future__ import annotations

import dataclasses
import re

from cpt_ray.config.sections.clean import C4Rules
from cpt_ray.data.clean.segment import count_sentences, tokens
from cpt_ray.data.clean.view import TextView
from cpt_ray.data.scripts import has_no_full_stop, has_unspaced, split_unspaced
from cpt_ray.records import Dropped

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_SENTENCE_ENDS = (".", "?", "!", '"', "'")
_UNSPACED_ENDS = ("\u3002", "\uff1f", "\uff01", "\uff0e", "\uff61", "\u300d", "\u300f", "\u201d", "\u104b", "\u17d4", "\u17d5")
"""Ends of sentences in scripts without spaces: full stops, full-width marks, closing quotes, those of Burmese and Khmer."""
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def c4(view: TextView, rules: C4Rules) -> Dropped | TextView:
    """Remove lines, and drop the document if too little is left."""
    kept: list[str] = []
    for raw in view.text.splitlines():
        line = _kept_line(raw, rules)
        if line is None:
            continue
        lowered = line.lower()
        if rules.lorem_ipsum and "lorem ipsum" in lowered:
            return Dropped("c4.lorem_ipsum")
        if rules.javascript and "javascript" in lowered:
            continue
        if rules.curly_bracket and "{" in line:
            return Dropped("c4.curly_bracket")
        if rules.policy and any(phrase in lowered for phrase in _POLICY):
            continue
        kept.append(line)
    if rules.min_sentences is not None and not (view.has_no_full_stop or _enough_sentences(kept, rules.min_sentences)):
        return Dropped("c4.min_sentences")
    text = "\n".join(kept).strip()
    return view if text == view.text else TextView(dataclasses.replace(view.document, text=text))


def _kept_line(line: str, rules: C4Rules) -> str | None:
    line = line.strip()
    unspaced = has_unspaced(line)
    words = split_unspaced(line) if unspaced else line.split()
    longest = rules.max_word_characters
    if longest is not None and len(line) > longest and max(map(len, words)) > longest:
        return None
    if rules.citations and "[" in line:
        line = _CITATION.sub("", line)
    if rules.terminal_punctuation and not _ends_sentence(line, unspaced=unspaced):
        return None
    if rules.min_line_words is not None and len(words) < rules.min_line_words:
        return None
    return line


def _ends_sentence(line: str, *, unspaced: bool) -> bool:
    if line.endswith(_SENTENCE_ENDS):
        return not line.endswith("...")
    return unspaced and (line.endswith(_UNSPACED_ENDS) or has_no_full_stop(line))


def _enough_sentences(lines: list[str], least: int) -> bool:
    """Whether the lines contain at least `least` sentences; each line starts one, so most documents need no counting."""
    if sum(map(bool, lines)) >= least:
        return True
    count = 0
    for line in lines:
        count += count_sentences(tokens(line))
        if count >= least:
            return True
    return False
