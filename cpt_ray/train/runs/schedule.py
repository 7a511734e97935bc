"""The learning rate as a function of `tokens_spent`: linear warm-up, constant, decay.

In: a run's `RateSchedule`, resolved by `train/runs/specs.py`. Out: a rate. Shapes from Haegele et al. 2024 (arXiv
2405.18392), section 3: `1-sqrt` falls as 1 - sqrt(share of the decay done). A cosine run is the same with its decay starting
at the end of the warm-up. Guarantee: continuous wherever warm-up and decay have nonzero length.
"""

import math
from collections.abc import Callable

from cpt_ray.records import RateSchedule

_LEFT: dict[str, Callable[[float], float]] = {
    "1-sqrt": lambda done: 1 - math.sqrt(done),
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}
"""Share of the way from peak to final rate that is left when the share `done` of the decay is over."""


def learning_rate(tokens: float, schedule: RateSchedule) -> float:
    """The rate at `tokens`.

    A step's rate is taken at the middle of its tokens, so that neither the first nor the last step is spent at rate zero.

    Args:
        tokens: Loss-bearing tokens since the base.
        schedule: The run's schedule.
    """
    peak, warm = schedule.peak_rate, tokens - schedule.warmup_start_tokens
    if warm < schedule.warmup_tokens:
        return schedule.start_rate + (peak - schedule.start_rate) * max(0.0, warm) / schedule.warmup_tokens
    start, end = schedule.decay_start_tokens, schedule.decay_end_tokens
    if start is None or end is None or tokens <= start:
        return peak
    left = _LEFT[schedule.decay_shape](min(1.0, (tokens - start) / (end - start)))
    return schedule.final_rate + (peak - schedule.final_rate) * left
