"""The documents of one packed row, as the kernels of attention read them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor


class Documents(NamedTuple):
    """The documents of a row of N tokens."""

    lengths: tuple[int, ...]
    """They add up to N."""
    boundaries: Tensor
    """int32 [documents + 1] on the row's device: cumulative lengths from 0."""

    @property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return max(self.lengths)

    @classmethod
    def between(cls, cuts: Sequence[int], boundaries: Tensor) -> Documents:
        """The documents between these cuts, which are the values of `boundaries`."""
        return cls(tuple(end - start for start, end in pairwise(cuts)), boundaries)
