"""The learning rate as a function of `tokens_seen`: linear warm-up, constant, cooldown.

Shapes from Haegele et al. 2024 (arXiv 2405.18392), section 3: `1-sqrt` falls as 1 - sqrt(share of the cooldown done).
"""

import math

from cpt_ray.config.schedule import ScheduleConfig
from cpt_ray.records import RunSpec


def learning_rate(tokens: float, *, peak: float, schedule: ScheduleConfig, spec: RunSpec) -> float:
    """The rate at `tokens`.

    A step's rate is taken at the middle of its tokens, so that neither the first nor the last step is spent at rate zero.

    Args:
        tokens: Loss-bearing tokens since the base.
        peak: The constant rate.
        schedule: Warm-up and shape.
        spec: Gives the start of the cooldown (None for a trunk) and the stop.
    """
    if schedule.warmup and tokens < schedule.warmup:
        return peak * tokens / schedule.warmup
    start = spec.cooldown_start_tokens
    if start is None or tokens <= start:
        return peak
    done = min(1.0, (tokens - start) / (spec.stop_tokens - start))
    decay = 1 - math.sqrt(done) if schedule.cooldown_shape == "1-sqrt" else 1 - done
    return peak * (schedule.final_share + (1 - schedule.final_share) * decay)
