"""Language identification, one document at a time, by py3langid (BSD-3-Clause; 139 languages; model included in the package).

Part of stage `clean`. Memory: the model, about 60 MB per process, loaded on first use.

Guarantee: the same text always gets the same language and probability, without network access.
"""

from __future__ import annotations

import functools
from typing import Any

from cpt_ray.edges.packages import needed_for


def identify(text: str, characters: int) -> tuple[str, float]:
    """The most probable language of a text.

    Args:
        text: The text.
        characters: Number of characters to examine, from the middle: the beginning is often a menu or a header.

    Returns:
        ISO 639-1 code and probability.
    """
    start = max(0, (len(text) - characters) // 2)
    code, probability = _model().classify(text[start : start + characters])
    return str(code), float(probability)


@functools.lru_cache(maxsize=1)
def _model() -> Any:
    with needed_for("prepare.clean.language_id.detect"):
        from py3langid.langid import MODEL_FILE, LanguageIdentifier  # takes half a second to load

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
