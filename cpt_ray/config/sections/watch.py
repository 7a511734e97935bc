"""The `train.guards` and `train.watch` sections: what stops a run or warns about it, and what is measured while it trains.

Nothing here changes the result of a finished run, so none of it enters a fingerprint.
"""

from typing import Literal

from pydantic import Field

from cpt_ray.config.values import Count, Seconds, Section


class GuardsConfig(Section):
    """What stops a run, or raises a warning."""

    max_skipped_steps: int = Field(
        default=0,
        ge=0,
        description="maximum number of steps that a run may skip because the loss or gradient is not finite; 0 stops at the "
        "first; such a step never changes the weights",
    )
    spike_window: int = Field(
        default=100,
        ge=10,
        description="number of recent steps that a loss is compared with; spikes are detected once half of them are there",
    )
    spike_sigmas: float = Field(
        default=6.0, gt=0, description="a loss this many robust standard deviations above the window's median is a loss spike"
    )
    on_spike: Literal["warn", "stop"] = Field(
        default="warn", description="warn: record an event and continue; stop: end the run; no checkpoint contains the step"
    )


class WatchConfig(Section):
    """What is measured while a run trains."""

    memory_every: Count | None = Field(
        default=None, ge=1, description="interval between memory measurements, in tokens; default: a tenth of the run"
    )
    held_out_every: Count | None = Field(
        default=None,
        ge=0,
        description="interval between held-out losses, in tokens; 0 is off; default: a tenth of the run, or longer so that "
        "they cost at most 2 % of it; off if a single one would cost more",
    )
    held_out_documents: int = Field(
        default=16, ge=1, description="validation documents per source in a held-out loss, the first context window of each"
    )
    hang_report: Seconds = Field(
        default=120,
        ge=1,
        description="seconds without a heartbeat from any worker after which the slowest worker is reported; never below 5 "
        "times the slowest step",
    )
