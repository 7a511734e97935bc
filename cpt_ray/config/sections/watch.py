"""The `train.guards` and `train.watch` sections: what stops or warns while a run trains, and what is measured beside it.

Nothing here changes what a finished run has computed, so none of it enters a fingerprint.
"""

from typing import Literal

from pydantic import Field

from cpt_ray.config.values import Count, Seconds, Section


class GuardsConfig(Section):
    """What stops a run, or warns."""

    max_skipped_steps: int = Field(
        default=0,
        ge=0,
        description="steps whose loss or gradient is not finite that a run may skip; 0 stops at the first, before its step",
    )
    spike_window: int = Field(default=100, ge=10, description="steps whose losses say what is usual; half of them are needed")
    spike_sigmas: float = Field(
        default=6.0, gt=0, description="a loss this many robust standard deviations above the window's median is a spike"
    )
    on_spike: Literal["warn", "stop"] = Field(default="warn", description="warn: report and go on; stop: end before its step")


class WatchConfig(Section):
    """What is measured beside the steps."""

    memory_every: Count | None = Field(
        default=None, ge=1, description="tokens between measurements of memory; default: a tenth of the run"
    )
    held_out_every: Count | None = Field(
        default=None,
        ge=0,
        description="tokens between held-out losses; 0 is off; default: a tenth of the run, or what costs 2 % of it; off "
        "if that is more than the run",
    )
    held_out_documents: int = Field(
        default=16, ge=1, description="validation documents of each source behind a held-out loss, the first window of each"
    )
    hang_report: Seconds = Field(
        default=120, ge=1, description="silence of all workers after which the one behind is named; at least 5 slowest steps"
    )
