"""A document as the rules see it: its lines, words and tokens, computed on first use.

Part of stage `clean`. Memory: the lines, words and tokens of the current document.
"""

from __future__ import annotations

import functools

from cpt_ray.data.clean.segment import tokens
from cpt_ray.data.scripts import has_no_full_stop, has_unspaced, is_unspaced, split_unspaced
from cpt_ray.records import Document


class TextView:
    """A document with its lines and words, computed on first use."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.text = document.text

    @functools.cached_property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the text."""
        return len(self.text.encode())

    @functools.cached_property
    def lines(self) -> list[str]:
        """Non-empty lines, stripped."""
        return [line.strip() for line in self.text.split("\n") if line.strip()]

    @functools.cached_property
    def words(self) -> list[str]:
        """Whitespace-separated words; in scripts without spaces each character, with the punctuation after it."""
        return split_unspaced(self.text) if self.has_unspaced else self.text.split()

    @functools.cached_property
    def has_unspaced(self) -> bool:
        """Whether any of the text is in a script without spaces."""
        return has_unspaced(self.text)

    @functools.cached_property
    def unspaced(self) -> bool:
        """Whether the text is mostly in a script without spaces, to which rules on the length of words do not apply."""
        return self.has_unspaced and is_unspaced(self.text)

    @functools.cached_property
    def has_no_full_stop(self) -> bool:
        """Whether the text is mostly in a script that does not mark the end of a sentence."""
        return self.unspaced and has_no_full_stop(self.text)

    @functools.cached_property
    def spaced_words(self) -> list[str]:
        """The words that are in no script without spaces."""
        return [word for word in self.words if not has_unspaced(word)] if self.has_unspaced else self.words

    @functools.cached_property
    def tokens(self) -> list[str]:
        """Words and punctuation marks, as segmented by `segment`."""
        return tokens(self.text)


def repeated(pieces: list[str]) -> tuple[int, int]:
    """The number of pieces that occurred before, and of their characters."""
    seen: set[str] = set()
    count = characters = 0
    for piece in pieces:
        if piece in seen:
            count += 1
            characters += len(piece)
        else:
            seen.add(piece)
    return count, characters


def above(amount: float, share: float | None, whole: float) -> bool:
    """Whether an amount is more than its share of the whole; False if the rule is off."""
    return share is not None and amount > share * whole


def below(amount: float, share: float | None, whole: float) -> bool:
    """Whether an amount is less than its share of the whole; False if the rule is off."""
    return share is not None and amount < share * whole


def outside(value: float, bounds: tuple[float, float] | None) -> bool:
    """Whether a value is outside its bounds; False if the rule is off."""
    return bounds is not None and not bounds[0] <= value <= bounds[1]
