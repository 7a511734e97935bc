"""Find a curve's parameters: Huber loss on log residuals and multi-start L-BFGS, as in Hoffmann et al. 2022 (2203.15556).

The estimate is by scipy's L-BFGS-B from the best of many random starts. Refits, on subsets of documents or with a target held
at a value, are hundreds of small least-squares problems with the estimate's weights: `least_squares` solves them all at once by
Levenberg-Marquardt, in some 50 steps of a few milliseconds. Guarantee: deterministic for a given generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from cpt_ray.compare.fits.forms import Form
from cpt_ray.evaluate.intervals import Floats

HOFFMANN_DELTA = 1e-3
"""Where Huber's loss turns linear, of a log residual, in Hoffmann et al. 2022: the least that is used here."""
_EFFICIENT = 1.345
"""Huber's constant: this many standard deviations keep 95 % of the efficiency of least squares under normal noise."""
_CANDIDATES, _SCREENED, _STARTS = 512, 12, 3
_STEP = 1e-5


@dataclass(frozen=True)
class Solution:
    """An estimate: searched parameters, Huber's weights of the scores [scores], and the ends of the box."""

    searched: Floats
    weights: Floats
    low: Floats
    high: Floats

    @property
    def free(self) -> list[int]:
        """Parameters that do not stand at an end of the box."""
        room = 1e-6 * (self.high - self.low)
        return [
            place
            for place, value in enumerate(self.searched)
            if self.low[place] + room[place] < value < self.high[place] - room[place]
        ]


def solve(form: Form, design: Floats, losses: Floats, *, random: np.random.Generator) -> Solution:
    """Estimate a curve.

    Args:
        form: The form.
        design: [scores, columns].
        losses: [scores], positive.
        random: Generator of the starts.
    """
    low, high = form.box(design, losses)
    observed = np.log(losses)
    candidates = low + (high - low) * random.random((_CANDIDATES, len(low)))
    wrong = _huber(form.log_loss(candidates, design[None]) - observed, HOFFMANN_DELTA).sum(axis=1)
    # L-BFGS crawls along the valleys of these forms: least squares takes it to their bottom first.
    starts, _ = least_squares(
        lambda searched: form.log_loss(searched, design[None]) - observed,
        candidates[np.argsort(wrong)[:_SCREENED]],
        (low, high),
    )
    wrong = _huber(form.log_loss(starts, design[None]) - observed, HOFFMANN_DELTA).sum(axis=1)
    starts = starts[np.argsort(wrong)[:_STARTS]]
    found = _best(form, design, observed, starts, HOFFMANN_DELTA, (low, high))
    residuals = form.log_loss(found, design) - observed
    # Noise beyond Hoffmann's constant would make the loss that of the median, which at eight points follows single scores.
    spread = 1.4826 * float(np.median(np.abs(residuals))) * np.sqrt(len(losses) / max(len(losses) - len(low), 1))
    delta = max(HOFFMANN_DELTA, _EFFICIENT * spread)
    found = _best(form, design, observed, np.vstack([found, starts[:1]]), delta, (low, high))
    residuals = np.abs(form.log_loss(found, design) - observed)
    return Solution(found, np.minimum(1.0, delta / np.maximum(residuals, 1e-300)), low, high)


def _huber(residuals: Floats, delta: float) -> Floats:
    size = np.abs(residuals)
    loss: Floats = np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)) / delta**2
    return loss


def _best(form: Form, design: Floats, observed: Floats, starts: Floats, delta: float, box: tuple[Floats, Floats]) -> Floats:
    def objective(searched: Floats) -> tuple[float, Floats]:
        wrong = form.log_loss(searched, design) - observed
        slope = np.clip(wrong, -delta, delta) / delta**2
        jacobian = _jacobian(lambda moved: form.log_loss(moved, design[None]), searched[None], wrong[None] + observed)[0]
        return float(_huber(wrong, delta).sum()), slope @ jacobian

    bounds = list(zip(*box, strict=True))
    results = [minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    best: Floats = min(results, key=lambda result: float(result.fun)).x
    return best


def least_squares(
    residuals: Callable[[Floats], Floats], starts: Floats, box: tuple[Floats, Floats], *, steps: int = 60
) -> tuple[Floats, Floats]:
    """Minimize sums of squares, one problem per start.

    Args:
        residuals: Parameters [..., problems, parameters] to residuals [..., problems, residuals].
        starts: [problems, parameters].
        box: Ends of each parameter.
        steps: Most steps.

    Returns:
        The parameters [problems, parameters] and the sums of squares [problems].
    """
    low, high = box
    found = np.clip(starts, low, high)
    wrong = residuals(found)
    cost = (wrong**2).sum(axis=1)
    damping = np.full(len(found), 1e-2)
    identity = np.eye(found.shape[1])
    for _ in range(steps):
        jacobian = _jacobian(residuals, found, wrong)
        gradient = np.einsum("brp,br->bp", jacobian, wrong)
        # A parameter that stands at the end of the box and is drawn outwards stays there.
        stuck = ((found <= low) & (gradient > 0)) | ((found >= high) & (gradient < 0))
        jacobian = np.where(stuck[:, None, :], 0.0, jacobian)
        gradient = np.where(stuck, 0.0, gradient)
        curvature = np.einsum("brp,brq->bpq", jacobian, jacobian)
        scale = np.einsum("bpp->bp", curvature)
        scale = np.maximum(scale, 1e-9 * scale.max(axis=1, keepdims=True) + 1e-300)
        damped = curvature + identity * ((damping[:, None] + 1e-12) * scale)[:, None, :]
        step = np.linalg.solve(damped, gradient[..., None])[..., 0]
        moved = np.clip(found - step, low, high)
        tried = residuals(moved)
        tried_cost = (tried**2).sum(axis=1)
        better = tried_cost < cost
        found = np.where(better[:, None], moved, found)
        wrong = np.where(better[:, None], tried, wrong)
        # What the step should have gained: nothing, where a problem is solved.
        done = (gradient * step).sum(axis=1) <= 1e-9 * cost + 1e-24
        cost = np.where(better, tried_cost, cost)
        damping = np.where(better, damping / 5, damping * 4).clip(1e-9, 1e8)
        if done.all():
            break
    return found, cost


def _jacobian(function: Callable[[Floats], Floats], at: Floats, value: Floats) -> Floats:
    """Forward differences [problems, residuals, parameters], all of them in one call of the function."""
    moved = at + _STEP * np.eye(at.shape[1])[:, None]
    slopes: Floats = np.moveaxis((function(moved) - value) / _STEP, 0, -1)
    return slopes


def gradient_of(function: Callable[[Floats], Floats], at: Floats) -> Floats:
    """Derivatives of a function of one set of parameters [parameters], whose values are [...], as [..., parameters]."""
    slopes: Floats = _jacobian(lambda moved: np.atleast_2d(function(moved)), at[None], np.atleast_2d(function(at[None])))[0]
    return slopes
