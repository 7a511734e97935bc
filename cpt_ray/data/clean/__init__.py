"""Stage `clean`: normalisation and quality rules, one document at a time.

Flow: `Document` in, `Document` with normalised text or `Dropped(reason)` out. Memory: the document at hand.

Guarantee: the same document and settings always get the same verdict, and the first rule that objects names the reason.
"""

from __future__ import annotations

import dataclasses

from cpt_ray.config.prepare import CleanConfig
from cpt_ray.data.clean.normalise import normalise
from cpt_ray.data.clean.rules import REASON_KEYS, RULES, TextView
from cpt_ray.records import Document, Dropped

__all__ = ["REASON_KEYS", "RULES", "clean", "normalise"]


def clean(document: Document, config: CleanConfig) -> Document | Dropped:
    """Normalise a document, then ask every rule that is on.

    Args:
        document: The document as read.
        config: `prepare.clean`.

    Returns:
        The document with its new text, or the reason for dropping it (`empty` if normalisation leaves nothing).
    """
    if config.normalise:
        document = dataclasses.replace(document, text=normalise(document.text))
        if not document.text.strip():
            return Dropped("empty")
    view = TextView(document)
    for key, rule in RULES.items():
        setting = getattr(config, key)
        if setting is not None and (verdict := rule(view, setting)) is not None:
            return verdict
    return document
