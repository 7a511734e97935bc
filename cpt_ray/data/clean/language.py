"""Language identification, one document at a time, by py3langid (BSD-3-Clause; 139 languages; its model lies in the package).

Part of stage `clean`. Memory: the model, about 60 MB per process, loaded when first asked for.

Guarantee: the same text always gets the same language and probability, without a network.
"""

from __future__ import annotations

import functools
from typing import Any


def identify(text: str, characters: int) -> tuple[str, float]:
    """The most probable language of a text.

    Args:
        text: Any text.
        characters: How many characters from its middle are looked at: the beginning is often a menu or a header.

    Returns:
        ISO 639-1 code and probability.
    """
    start = max(0, (len(text) - characters) // 2)
    code, probability = _model().classify(text[start : start + characters])
    return str(code), float(probability)


@functools.lru_cache(maxsize=1)
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # half a second to load, and most studies do not ask

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
