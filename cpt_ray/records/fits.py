"""Records of what the curves of a study say: fits, forecasts, efficiency ratios, and what to do with more compute.

Losses are in bits per byte, changes are against the base. Guarantee: a number is given with its interval or not at all, and
what is missing says why.
"""

from __future__ import annotations

from typing import Literal

from cpt_ray.records.base import Record, SourceRole


class Estimated(Record):
    """A value and the ends of its interval; an end is None where the scores do not bound the value."""

    name: str
    value: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is above or below 0, else 0."""
        if self.low is not None and self.low > 0:
            return 1
        return -1 if self.high is not None and self.high < 0 else 0


class LeftOut(Record):
    """A point predicted from a fit to all others; `x` in the fit's unit."""

    x: float
    measured: float
    predicted: float


class CurvePoint(Record):
    """A place on a fitted curve in tokens; the ends are those of its difference to the base."""

    tokens: float
    bits_per_byte: float
    low: float
    high: float


class Fit(Record):
    """A curve fitted to the scores on one set, or why none was."""

    kind: Literal["tokens", "compute", "size", "mix"]
    """x is tokens, FLOPs, parameters, or tokens and the share of domain text."""
    formula: str
    model: str | None
    """None for a curve over models."""
    arm: str | None
    """None for a curve over arms."""
    set_name: str
    role: SourceRole
    points: int
    """Distinct values of x, the base not counted."""
    scores: int
    """Points of all seeds."""
    seeds: int
    degrees_of_freedom: int
    """Of the error between runs."""
    parameters: tuple[Estimated, ...] = ()
    residual_percent: float | None = None
    """Root mean square of measured over fitted loss, less one."""
    left_out: tuple[LeftOut, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    """Of a curve in tokens: from the base to its largest budget, to be drawn."""
    warnings: tuple[str, ...] = ()
    refused: str = ""
    """Why nothing was fitted; empty if something was."""

    @property
    def subject(self) -> str:
        """What the curve is of, in words."""
        parts = [self.model or "all models", f"arm {self.arm}" if self.arm else "all arms"]
        return f"{', '.join(parts)} on {self.set_name}"


class Money(Record):
    """An amount of money."""

    amount: float
    currency: str


class Forecast(Record):
    """The change against the base that a fit predicts at a budget that was not run."""

    model: str
    arm: str
    set_name: str
    role: SourceRole
    tokens: float
    seeds: int = 1
    change: Estimated | None
    """Bits per byte against the base: below 0 is a gain, above 0 a loss."""
    better: bool | None = None
    """The only judgment: None is "cannot be told". It never says more than the difference at the largest budget."""
    unsure: str = ""
    """Why it cannot be told, where there is a change."""
    missing: str = ""
    """Why there is no change."""
    price: Money | None = None
    """Of training so many tokens from the base; None where no price is known."""


class EfficiencyRatio(Record):
    """Compute that the control needs to reach a loss on the domain, over the compute that a domain arm needs for it."""

    model: str
    parameters: int | None
    arm: str
    control: str
    set_name: str
    basis: Literal["measured", "fitted"]
    """By interpolation between measured points, or by both fitted curves."""
    target: str
    """The loss to be reached, in words."""
    target_loss: float
    ratio: Estimated | None
    bound: Literal["", ">", "<"] = ""
    """Whether the ratio is only a bound, because the control (>) or the arm (<) never reached the loss."""
    bound_value: float | None = None
    missing: str = ""
    censored: bool = False
    """Whether the lowest loss is that of the last budget: still falling, it is no minimum that training would come to."""


class RatioTrend(Record):
    """The exponent of the efficiency ratio over parameters: above 0, it grows with size."""

    arm: str
    set_name: str
    target: str
    sizes: int
    exponent: Estimated | None
    missing: str = ""


class ShareRow(Record):
    """What an arm did to general text."""

    arm: str
    share: float
    """Domain text in the rows that it drew."""
    change: Estimated | None
    within: bool | None
    """Whether the change is within the tolerance; None if the data cannot tell."""


class ShareAnswer(Record):
    """The largest domain share that keeps general text within the tolerance, at one budget."""

    model: str
    set_name: str
    budget_tokens: int
    tolerance: float
    rows: tuple[ShareRow, ...]
    answer: str
    """What the runs show."""
    fitted: str = ""
    """What the curve through them says; empty without one."""


class SpendingOption(Record):
    """One way to spend a FLOPs budget; `against` is its loss less that of more tokens.

    `better` is the only judgment, at the level of all options together (Bonferroni); None is "cannot be told".
    """

    kind: Literal["more tokens", "another size", "other data"]
    model: str
    arm: str
    tokens: float | None
    loss: Estimated | None
    against: Estimated | None
    better: bool | None = None
    missing: str = ""
    price: Money | None = None
    """Of training its tokens from the base; None where no price is known."""


class Spending(Record):
    """The ways to spend a multiple of the largest run's FLOPs, and what the scores can tell of them."""

    set_name: str
    factor: float
    flops: float
    options: tuple[SpendingOption, ...]
    answer: str


class Answers(Record):
    """What the curves of a study say."""

    fits: tuple[Fit, ...] = ()
    forecasts: tuple[Forecast, ...] = ()
    ratios: tuple[EfficiencyRatio, ...] = ()
    trends: tuple[RatioTrend, ...] = ()
    shares: tuple[ShareAnswer, ...] = ()
    spendings: tuple[Spending, ...] = ()
    unfitted: str = ""
    """Which models and arms were left out, in a sentence; empty if none was."""
    confidence: float = 0.95
    priced: str = ""
    """What prices rest on; empty where none is known."""
