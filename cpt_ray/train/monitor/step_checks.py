"""Checks of every step: a loss or gradient that is not finite, and a loss that spikes.

Inside the loop, on every rank. In: the global loss and gradient norm, equal on all ranks, so all reach the same decision
without communicating. Out: a refusal, a skipped step or a spike. Guarantee: a skipped step has changed neither weights nor
optimizer, and its tokens are not counted as seen; of a refused one, nothing is saved.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable

from cpt_ray.config.sections.watch import GuardsConfig
from cpt_ray.errors import TrainingError
from cpt_ray.records import RunEvent
from cpt_ray.train.engine.outcome import LoweredScale
from cpt_ray.train.order.batches import Batch

_MAD_TO_SIGMA = 1.4826
"""Standard deviations per median absolute deviation, for normal noise."""
_LEAST_SIGMA_SHARE = 0.002
"""Smallest deviation, as a share of the median: a window of equal losses has no spread, and rounding is not a spike."""
_MOST_ROWS_NAMED = 8


class StepRefused(TrainingError):  # noqa: N818  (the guards did what they are for)
    """A guard refused a step: on every rank, because all decide from the same numbers."""


class SpikeMonitor:
    """Finds losses far above the recent ones: robust z-score over a rolling window (median and MAD).

    A spike is reported once, at its first step: the steps that follow it above the threshold belong to it, and since they
    enter the window, a loss that stays high becomes the usual one.

    Args:
        window: Number of losses that define the usual one; nothing is reported until half of them have been seen.
        sigmas: The threshold.
        history: Losses of the steps before, oldest first, as read back by a resumed run.
    """

    def __init__(self, *, window: int, sigmas: float, history: Iterable[float] = ()) -> None:
        self._losses: deque[float] = deque(maxlen=window)
        self._window, self._sigmas = window, sigmas
        self._inside = False
        for loss in history:
            self.see(loss)

    def see(self, loss: float) -> float | None:
        """Add a loss; returns the usual loss if a spike begins here, else None."""
        usual, limit = self._usual_and_limit()
        above = loss > limit
        begins = above and not self._inside
        self._inside = above
        self._losses.append(loss)
        return usual if begins else None

    def _usual_and_limit(self) -> tuple[float, float]:
        if len(self._losses) < self._window // 2:
            return math.nan, math.inf
        usual = statistics.median(self._losses)
        spread = statistics.median(abs(loss - usual) for loss in self._losses)
        sigma = max(_MAD_TO_SIGMA * spread, _LEAST_SIGMA_SHARE * abs(usual))
        return usual, usual + self._sigmas * sigma


class Guards:
    """The guards of one run.

    Args:
        config: `train.guards`.
        attempt: Number of this start of the run.
        history: Losses of the steps before this start.
    """

    def __init__(self, config: GuardsConfig, *, attempt: int, history: Iterable[float] = ()) -> None:
        self._config, self._attempt = config, attempt
        self._spikes = SpikeMonitor(window=config.spike_window, sigmas=config.spike_sigmas, history=history)

    def see_loss(self, loss: float, *, step: int, tokens_seen: int, batch: Batch) -> RunEvent | None:
        """Add the loss of a step; returns a spike, if one begins. A loss that is not finite is ignored."""
        if not math.isfinite(loss):
            return None
        usual = self._spikes.see(loss)
        if usual is None:
            return None
        text = f"loss {loss:.4f}, usual {usual:.4f}"
        return self._event("spike", text, step=step, tokens_seen=tokens_seen, batch=batch, loss=loss, usual_loss=usual)

    def require_no_stop(self, spike: RunEvent) -> None:
        """Let a spike pass, unless `train.guards.on_spike` is `stop`.

        Raises:
            StepRefused: Naming step and rows.
        """
        if self._config.on_spike == "stop":
            raise StepRefused(
                f"step {spike.step} at {spike.tokens_seen} tokens: loss spike: {spike.text}; rows {_some(spike.sample_ids)}",
                fix="inspect these rows, or lower train.learning_rate; train.guards.on_spike=warn continues past it",
            )

    def overflow(self, lowered: LoweredScale, *, step: int, tokens_seen: int) -> RunEvent:
        """Record that a step is repeated at a lower loss scale of fp16; that is how the scale is found, and no skipped step."""
        text = f"a gradient overflowed at loss scale {lowered.before:g}; the step is repeated at {lowered.now:g}"
        return RunEvent(kind="overflow", attempt=self._attempt, step=step, tokens_seen=tokens_seen, text=text)

    def skip(self, loss: float, norm: float, *, step: int, tokens_seen: int, skipped: int, batch: Batch) -> RunEvent:
        """Record a step that was dropped because its loss or gradient is not finite.

        Args:
            loss: Its loss.
            norm: Its gradient norm.
            step: Its number.
            tokens_seen: Tokens seen before it.
            skipped: Steps of the run skipped before it.
            batch: Its rows.

        Raises:
            StepRefused: If no more may be skipped; this step has not changed the weights.
        """
        what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient norm is {norm}"
        event = self._event("skipped_step", what, step=step, tokens_seen=tokens_seen, batch=batch, loss=loss, usual_loss=None)
        most = self._config.max_skipped_steps
        if skipped >= most:
            before = f"; {skipped} skipped before it, and train.guards.max_skipped_steps is {most}" if skipped else ""
            raise StepRefused(
                f"step {step} at {tokens_seen} tokens: {what}; rows {_some(event.sample_ids)}{before}",
                fix="lower train.learning_rate or lengthen train.schedule.warmup, or skip such steps with a higher "
                "train.guards.max_skipped_steps; the run resumes from its last checkpoint",
            )
        return event

    def _event(
        self, kind: str, text: str, *, step: int, tokens_seen: int, batch: Batch, loss: float, usual_loss: float | None
    ) -> RunEvent:
        return RunEvent.model_validate(
            {
                "kind": kind,
                "attempt": self._attempt,
                "step": step,
                "tokens_seen": tokens_seen,
                "text": text,
                "loss": loss,
                "usual_loss": usual_loss,
                "sample_ids": tuple(str(sample) for sample in batch.sample_ids),
            }
        )


def _some(sample_ids: tuple[str, ...]) -> str:
    rest = f" and {len(sample_ids) - _MOST_ROWS_NAMED} more" if len(sample_ids) > _MOST_ROWS_NAMED else ""
    return ", ".join(sample_ids[:_MOST_ROWS_NAMED]) + rest
