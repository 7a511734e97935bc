"""The keys of a derived source: which documents of its parent it takes.

Part of `sources`. `where` is parsed here, once: text in, `Condition`s out.
"""

import re
from typing import Literal, NamedTuple

from pydantic import Field

from cpt_ray.config.values import Name, Section

Comparator = Literal[">=", ">", "<=", "<"]

_CONDITION = re.compile(r"(?P<classifier>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<comparator>>=|<=|>|<)\s*(?P<threshold>[0-9.eE+-]+)")


class Condition(NamedTuple):
    """A bound on the probability that a classifier gives to a document."""

    classifier: str
    comparator: Comparator
    threshold: float

    def __str__(self) -> str:
        return f"{self.classifier} {self.comparator} {self.threshold:g}"


def parse_where(text: str) -> tuple[Condition, ...]:
    """Parse `legal >= 0.8`, or several of these joined by `and`.

    Raises:
        ValueError: If it is not of that form, or a threshold is not between 0 and 1.
    """
    return tuple(_parse_condition(part, text) for part in re.split(r"\s+and\s+", text.strip()))


def _parse_condition(part: str, text: str) -> Condition:
    match = _CONDITION.fullmatch(part)
    try:
        threshold = float(match["threshold"]) if match else None
    except ValueError:
        threshold = None
    if match is None or threshold is None:
        raise ValueError(f"expected a condition such as 'legal >= 0.8', or several joined by and, saw {text[:100]!r}")
    if not 0 < threshold < 1:
        raise ValueError(
            f"{part} keeps everything or nothing: scores are probabilities; give a threshold between 0 and 1, such as 0.8"
        )
    comparator: Comparator = match["comparator"]  # type: ignore[assignment]
    return Condition(match["classifier"], comparator, threshold)


class SampleConfig(Section):
    """A random draw of as many tokens as another derived source has."""

    like: Name = Field(description="derived source of the same parent whose tokens it draws")


class QualityMatchedConfig(Section):
    """A random draw with the tokens of another derived source, and its distribution of a score."""

    like: Name = Field(description="derived source of the same parent whose tokens and distribution it draws")
    by: Name = Field(description="classifier whose score is distributed alike")
