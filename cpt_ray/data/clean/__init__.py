"""Stage `clean`: normalize one document at a time, apply the enabled rules, and redact.

Flow: `Document` in, `Document` with its new text and language, or `Dropped(reason)`, out. A reason is the key under
`prepare.clean` that sets the threshold, except for `empty`, `language` and `language_uncertain`. Memory: the current document.

Guarantee: the same document and settings always get the same verdict, and the first rule violated is the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from cpt_ray.config.sections.clean import CleanConfig
from cpt_ray.data.clean.basic import basic, size, unwanted_language
from cpt_ray.data.clean.c4 import c4
from cpt_ray.data.clean.fineweb import education, fineweb
from cpt_ray.data.clean.gopher import gopher_quality, gopher_repetition
from cpt_ray.data.clean.language import identify
from cpt_ray.data.clean.normalize import normalize
from cpt_ray.data.clean.redact import redact
from cpt_ray.data.clean.view import TextView
from cpt_ray.data.invisible import remove_invisible
from cpt_ray.records import Document, Dropped

__all__ = ["RULE_SETS", "Cleaned", "clean", "normalize", "reason_key"]

RuleSet = Callable[[TextView, Any], Dropped | TextView]

RULE_SETS: dict[str, RuleSet] = {
    "basic": basic,
    "gopher_quality": gopher_quality,
    "gopher_repetition": gopher_repetition,
    "c4": c4,
    "fineweb": fineweb,
    "education": education,
}
"""Functions that apply the rule sets, by name: a view of the document in, a view (`c4` edits) or the drop out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cleaned:
    """A document that is kept, and by kind the redactions in it and the invisible characters removed from it."""

    document: Document
    redacted: dict[str, int]
    invisible: dict[str, int]


def clean(document: Document, config: CleanConfig) -> Cleaned | Dropped:
    """Normalize a document, apply every enabled rule, and redact it if it is kept.

    Args:
        document: The document, as read.
        config: `prepare.clean`.

    Returns:
        The document with its new text and, if detection was requested, its language; or the reason for dropping it.
    """
    text, invisible = _readable(document.text, config)
    if not text.strip():
        return Dropped("empty")
    document = dataclasses.replace(document, text=text)
    judged = _judge(TextView(document), config)
    if isinstance(judged, Dropped):
        return judged
    document = judged.document
    counts: dict[str, int] = {}
    if config.redact.kinds:
        text, counts = redact(document.text, config.redact.kinds, config.redact.placeholder)
        document = dataclasses.replace(document, text=text)
    return Cleaned(document, counts, invisible)


def _readable(text: str, config: CleanConfig) -> tuple[str, dict[str, int]]:
    """The text, normalized and without invisible characters, and how many of these were removed by kind."""
    counts: dict[str, int] = {}
    if config.normalize:
        text = normalize(text)
    # After mojibake is repaired, of which a soft hyphen can be a part; a letter and its accent may meet only now.
    if config.remove_invisible:
        text, counts = remove_invisible(text)
        if counts and config.normalize:
            text = normalize(text)
    return text, counts


def _judge(view: TextView, config: CleanConfig) -> Dropped | TextView:
    verdict = _in_language(view, config)
    if isinstance(verdict, TextView):
        verdict = size(verdict, config)
    for name in config.rules:
        if isinstance(verdict, Dropped):
            break
        verdict = RULE_SETS[name](verdict, getattr(config, name))
        if isinstance(verdict, TextView) and not verdict.text.strip():
            return Dropped("empty")
    return verdict


def _in_language(view: TextView, config: CleanConfig) -> Dropped | TextView:
    """The document with its language, or a drop because the language is unwanted or uncertain."""
    rule, document, probability = config.language_id, view.document, 1.0
    if rule.detect == "always" or (rule.detect == "missing" and document.language is None):
        code, probability = identify(document.text, rule.characters)
        view = TextView(dataclasses.replace(document, language=code))
    if config.languages is not None and unwanted_language(view, config.languages):
        return Dropped("language")
    if config.languages is not None and probability < rule.min_probability:
        return Dropped("language_uncertain")
    return view


def reason_key(reason: str) -> str | None:
    """The study file key behind a reason of this stage; None for reasons of other stages and for `empty`."""
    special = {"language": "languages", "language_uncertain": "language_id.min_probability"}
    if reason in special:
        return f"prepare.clean.{special[reason]}"
    return f"prepare.clean.{reason}" if reason.split(".")[0] in CleanConfig.model_fields else None
