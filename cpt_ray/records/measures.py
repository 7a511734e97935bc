"""The measures in which models are compared: their names, units and directions, the same for every table and judgment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Measure = Literal[
    "bits_per_byte",
    "accuracy_points",
    "accuracy_norm_points",
    "order_accuracy_points",
    "order_changes_points",
    "letter_nats",
    "margin_nats",
]


@dataclass(frozen=True, slots=True)
class MeasureFacts:
    """What a measure is.

    Attributes:
        words: Its name in tables.
        unit: Unit of a difference.
        decimals: Decimals in tables.
        lower_is_better: Whether a negative difference is better.
    """

    words: str
    unit: str
    decimals: int
    lower_is_better: bool = False


MEASURES: dict[Measure, MeasureFacts] = {
    "bits_per_byte": MeasureFacts("bits per byte", "bits/byte", 3, lower_is_better=True),
    "accuracy_points": MeasureFacts("accuracy", "points", 1),
    "accuracy_norm_points": MeasureFacts("accuracy, length-normalized", "points", 1),
    "order_accuracy_points": MeasureFacts("accuracy, all orders", "points", 1),
    "order_changes_points": MeasureFacts("changes with the order", "points", 1, lower_is_better=True),
    # A mean of logarithms: its difference is the logarithm of the ratio of two perplexities.
    "letter_nats": MeasureFacts("log perplexity of the letter", "nats", 3, lower_is_better=True),
    "margin_nats": MeasureFacts("margin", "nats", 3),
}
"""By name, as in `Delta.measure`."""
