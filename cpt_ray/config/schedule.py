"""The `train.schedule` section: the learning rate as a function of `tokens_seen`."""

from typing import Literal

from pydantic import Field

from cpt_ray.config.values import Count, Section


class ScheduleConfig(Section):
    """Learning rate as a function of `tokens_seen`: linear warm-up, constant, cooldown (Haegele et al. 2024)."""

    warmup: Count = Field(default=0, ge=0, description="tokens of linear warm-up from zero")
    cooldown_share: float = Field(default=0.2, gt=0, le=1, description="share of a budget spent cooling down")
    cooldown_shape: Literal["1-sqrt", "linear"] = Field(default="1-sqrt", description="shape of the decay")
    final_share: float = Field(default=0.0, ge=0, lt=1, description="final learning rate as a share of the peak")
