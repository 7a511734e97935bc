"""The learning rate as a function of tokens: `train.learning_rate`, `train.schedule` and `train.chain`.

In: YAML. Out: frozen sections. `docs/schedules.md` discusses the choices; `config/budgets.py` holds the rules between them.
"""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cpt_ray.config.plain_text import shorten
from cpt_ray.config.values import Count, Section

DecayShape = Literal["1-sqrt", "linear", "cosine"]
BaseRate = Literal["base_peak", "base_final"]


def parse_rate(value: object) -> float | str:
    """Read a learning rate: a number above 0, or the name of a rate of the base model.

    Raises:
        ValueError: If it is neither.
    """
    if value in ("base_peak", "base_final"):
        return str(value)
    try:
        rate = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        rate = math.nan
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"expected a number above 0, base_peak or base_final, saw {shorten(value)}")
    return rate


Rate = Annotated[float | BaseRate, BeforeValidator(parse_rate)]


class ScheduleConfig(Section):
    """The learning rate as a function of tokens; docs/schedules.md discusses the choices."""

    shape: Literal["constant_cooldown", "cosine"] = Field(
        default="constant_cooldown",
        description="constant_cooldown (WSD): warm-up, constant, cooldown; cosine: warm-up, then cosine decay to the end",
    )
    warmup: Count | None = Field(
        default=None, ge=0, description="tokens of linear warm-up to the peak; default: 1 % of the smallest budget"
    )
    warmup_from: Literal["zero", "base_final"] = Field(
        default="zero", description="learning rate at the start of warm-up: 0, or the base's `final_learning_rate`"
    )
    cooldown_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="constant_cooldown: share of the budget spent in cooldown (in a chain: share of each stage)",
    )
    cooldown_shape: DecayShape = Field(default="1-sqrt", description="constant_cooldown: shape of the decay")
    final_share: float = Field(default=0.0, ge=0, lt=1, description="final learning rate as a share of the peak")


class ChainConfig(Section):
    """How the later stages of `budget_mode: chain` start. No key has a default, because each changes what a stage means."""

    rewarm: Count = Field(ge=0, description="tokens of linear re-warm-up in each later stage; 0 jumps to the peak")
    rewarm_from: Literal["zero", "previous_final"] = Field(
        description="learning rate at the start of re-warm-up: 0, or the final rate of the previous stage"
    )
    peak_share: float = Field(gt=0, description="peak rate of each later stage as a share of the first stage's peak")
    optimizer: Literal["kept", "fresh"] = Field(
        description="AdamW moments at the start of each later stage: `kept` from the previous stage, or `fresh` (zeros)"
    )
