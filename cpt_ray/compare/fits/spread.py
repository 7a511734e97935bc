"""Intervals of what a fitted curve says: a parameter, a prediction, a difference of two predictions.

Two errors are measured apart and joined by the squares of the half-widths, as in `evaluate.intervals`:
- *Documents*: the whole curve is fitted again on random subsets of the documents and their complements.
- *Training*: with several seeds, a t interval over what each seed alone would have moved the value (Ibragimov and Mueller 2010,
  "t-statistic based correlation and heterogeneity robust inference"), so runs of a seed may share a trunk. With one seed, the
  residuals, which say nothing of what its runs have in common. Predictions, on which something is decided, have the degrees of
  freedom of the seeds, as paired differences do. Parameters, which only describe, have those of both errors together (Welch and
  Satterthwaite): with the seeds' alone they covered 98 to 99 % instead of 95. A value is not a linear function of the scores:
  its interval ends where the best fit that holds it there is worse by the square of that t, in units of the measured error
  (profile likelihood). A value that the scores do not bound has no end there, instead of a wrong one.
Percentiles of refits, which are usual, cover less often the more the seeds differ (benchmarks/results/stats.json).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cpt_ray.compare.fits.forms import Form
from cpt_ray.compare.fits.solve import Solution, gradient_of, least_squares
from cpt_ray.evaluate.intervals import Floats, t_quantile

Target = Callable[[Floats, Floats], Floats]
"""What is asked of a curve: searched parameters [..., parameters] and design [..., scores, columns] to values [...]."""

_OFFSETS = np.array([0.3, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0])
_REFINED = 9
_STIFF = 1e3


@dataclass(frozen=True)
class Scores:
    """What a curve is fitted to.

    Attributes:
        design: [scores, columns].
        losses: [scores].
        seeds: [scores], the seed of each.
        subset_designs: [subsets, scores, columns]; the base's loss is a column, and differs.
        subset_losses: [subsets, scores], over random subsets of the documents.
    """

    design: Floats
    losses: Floats
    seeds: tuple[int, ...]
    subset_designs: Floats
    subset_losses: Floats


@dataclass(frozen=True)
class Spread:
    """A value with its errors.

    Attributes:
        value: The estimate.
        low, high: Ends of the interval over training alone; infinite where the scores do not bound it.
        subsets: The value over subsets of the documents, in the same order for all curves on a set.
        confidence: Level of the interval.
    """

    value: float
    low: float
    high: float
    subsets: Floats
    confidence: float

    def bounds(self) -> tuple[float, float]:
        """The ends of the interval over training and documents."""
        ordered = np.sort(self.subsets)
        place = max(math.floor((1 - self.confidence) / 2 * (len(ordered) + 1)), 1) - 1
        below, above = max(self.value - float(ordered[place]), 0.0), max(float(ordered[-1 - place]) - self.value, 0.0)
        return self.value - math.hypot(self.value - self.low, below), self.value + math.hypot(self.high - self.value, above)

    def no_narrower_than(self, half: float) -> Spread:
        """The same value, over training at least as uncertain as plus or minus `half`."""
        return replace(self, low=min(self.low, self.value - half), high=max(self.high, self.value + half))

    def minus(self, other: Spread) -> Spread:
        """The difference of two values of independent runs, paired by documents."""
        value = self.value - other.value
        return Spread(
            value,
            value - math.hypot(self.value - self.low, other.high - other.value),
            value + math.hypot(self.high - self.value, other.value - other.low),
            self.subsets - other.subsets,
            self.confidence,
        )


@dataclass(frozen=True)
class Curve:
    """A form fitted to scores; `refits` [subsets, parameters] are the fits on subsets of the documents."""

    form: Form
    scores: Scores
    solution: Solution
    refits: Floats

    @property
    def degrees_of_freedom(self) -> int:
        """Of the error between runs: seeds less one, or scores less parameters where there is one seed."""
        seeds = len(set(self.scores.seeds))
        return seeds - 1 if seeds > 1 else len(self.scores.losses) - len(self.form.parameters)

    def residuals(self) -> Floats:
        """Log of measured over fitted loss [scores]."""
        wrong: Floats = np.log(self.scores.losses) - self.form.log_loss(self.solution.searched, self.scores.design)
        return wrong


def fit_curve(form: Form, scores: Scores, solution: Solution) -> Curve:
    """Fit the subsets of the documents, from the estimate on all of them."""
    weights, observed = np.sqrt(solution.weights), np.log(scores.subset_losses)

    def wrong(searched: Floats) -> Floats:
        found: Floats = weights * (form.log_loss(searched, scores.subset_designs) - observed)
        return found

    starts = np.tile(solution.searched, (len(observed), 1))
    refits, _ = least_squares(wrong, starts, (solution.low, solution.high))
    return Curve(form, scores, solution, refits)


def spread_of(curve: Curve, target: Target, confidence: float, *, describes: bool = False) -> Spread:
    """The value of a target and its errors.

    Args:
        curve: The curve.
        target: What it is asked.
        confidence: Level of the interval.
        describes: Whether nothing is decided by it, as by a parameter: then t has the degrees of freedom of both errors.

    Raises:
        ValueError: If there are no degrees of freedom left to estimate the error from.
    """
    if curve.degrees_of_freedom < 1:
        raise ValueError("as many parameters as scores, and one seed: nothing is left to estimate the error from")
    scores, solution = curve.scores, curve.solution
    value = float(target(solution.searched, scores.design))
    subsets = target(curve.refits, scores.subset_designs)
    # Half of the middle 68 %: refits of a value that the scores hardly bound have no standard deviation.
    documents = float(np.subtract(*np.quantile(subsets, [0.84, 0.16]))) / 2 if describes else 0.0
    low, high = _profile(curve, target, value, documents, confidence)
    return Spread(value, low, high, subsets, confidence)


def linear_spread(curve: Curve, target: Target, confidence: float) -> Spread:
    """As `spread_of`, with the interval over training to first order: a hundredth of the time.

    Meant for losses between budgets that were run, which the scores hold from both sides.
    """
    value = float(target(curve.solution.searched, curve.scores.design))
    _, half = _linear_error(curve, target, 0.0, confidence)
    return Spread(value, value - half, value + half, target(curve.refits, curve.scores.subset_designs), confidence)


def _profile(curve: Curve, target: Target, value: float, documents: float, confidence: float) -> tuple[float, float]:
    """The interval over training."""
    form, scores, solution = curve.form, curve.scores, curve.solution
    weights, observed = np.sqrt(solution.weights), np.log(scores.losses)

    def wrong(searched: Floats) -> Floats:
        found: Floats = weights * (form.log_loss(searched, scores.design) - observed)
        return found

    least = float((wrong(solution.searched) ** 2).sum())
    naive, half = _linear_error(curve, target, documents, confidence)
    if naive == 0:
        return -math.inf, math.inf
    if half == 0:
        return value, value
    allowed = (half / naive) ** 2

    def walk(values: Floats, starts: Floats) -> tuple[Floats, Floats, Floats]:
        """The best fits from starts [values, starts, parameters] that hold the target at values: where, excess, parameters."""
        wanted = np.repeat(values, starts.shape[1])

        def held(searched: Floats) -> Floats:
            pull = (target(searched, scores.design) - wanted) / half
            return np.concatenate([wrong(searched), _STIFF * math.sqrt(allowed) * pull[..., None]], axis=-1)

        found, _ = least_squares(held, starts.reshape(-1, starts.shape[2]), (solution.low, solution.high), steps=40)
        excess = (wrong(found) ** 2).sum(axis=1) - least
        reached = target(found, scores.design)
        missed = np.abs(reached - wanted) > 0.05 * half
        best = np.where(missed, np.inf, excess).reshape(len(values), -1).argmin(axis=1)
        rows = np.arange(len(values)) * starts.shape[1] + best
        return np.where(missed[rows], np.nan, reached[rows]), excess[rows], found[rows]

    middle = (solution.low + solution.high) / 2
    starts = np.stack([solution.searched, (solution.searched + middle) / 2])
    sides = np.array([-1, 1])
    values = value + half * np.outer(sides, _OFFSETS).ravel()
    at, excess, found = walk(values, np.tile(starts, (len(values), 1, 1)))
    brackets = [_bracket(*part, allowed) for part in zip(at.reshape(2, -1), excess.reshape(2, -1), strict=True)]
    ends = [float(side) * math.inf for side in sides]
    closed = [number for number in (0, 1) if brackets[number] is not None]
    inner, outer, fine_starts = [], [], []
    for number in closed:
        place = number * len(_OFFSETS) + int(brackets[number] or 0)
        before = place - 1 if brackets[number] and not math.isnan(at[place - 1]) else None
        inner.append((value, 0.0) if before is None else (float(at[before]), float(excess[before])))
        outer.append((float(at[place]), float(excess[place])))
        fine_starts.append(np.stack([found[place], solution.searched if before is None else found[before]]))
    if closed:
        fine = np.concatenate([
            np.linspace(near, far, _REFINED + 2)[1:-1] for (near, _), (far, _) in zip(inner, outer, strict=True)
        ])  # fmt: skip
        at, excess, _ = walk(fine, np.repeat(np.stack(fine_starts), _REFINED, axis=0))
        rows = zip(inner, outer, at.reshape(-1, _REFINED), excess.reshape(-1, _REFINED), strict=True)
        for number, (near, far, where, worse) in zip(closed, rows, strict=True):
            ends[number] = _crossing(near, far, where, worse, allowed)
    return ends[0], ends[1]


def _bracket(at: Floats, excess: Floats, allowed: float) -> int | None:
    """The first of values, from the estimate outwards, whose fit is worse than allowed; None if there is none."""
    beyond = np.flatnonzero(~(excess < allowed) & ~np.isnan(at))
    return int(beyond[0]) if len(beyond) else None


def _crossing(near: tuple[float, float], far: tuple[float, float], at: Floats, excess: Floats, allowed: float) -> float:
    """Where the root of the excess crosses what is allowed, between two values and over those in between."""
    kept = ~np.isnan(at)
    places = np.array([near[0], *at[kept], far[0]])
    roots = np.sqrt(np.maximum([near[1], *excess[kept], far[1]], 0.0))
    crossing = int(np.argmax(roots > math.sqrt(allowed)))
    share = (math.sqrt(allowed) - roots[crossing - 1]) / (roots[crossing] - roots[crossing - 1])
    return float(places[crossing - 1] + share * (places[crossing] - places[crossing - 1]))


def _linear_error(curve: Curve, target: Target, documents: float, confidence: float) -> tuple[float, float]:
    """How far a score's error of one, and the measured errors at this level, move the target, to first order.

    Scores that do not move it say nothing of it: the first is 0 then, the second infinite.
    """
    form, scores, solution = curve.form, curve.scores, curve.solution
    weights = np.sqrt(solution.weights)
    free = solution.free or list(range(len(solution.searched)))
    slopes = gradient_of(lambda searched: form.log_loss(searched, scores.design), solution.searched)[:, free]
    jacobian = weights[:, None] * slopes
    toward = gradient_of(lambda searched: target(searched, scores.design)[..., None], solution.searched)[0, free]
    curvature = jacobian.T @ jacobian
    curvature += 1e-9 * np.diag(np.maximum(np.diag(curvature), 1e-12 * np.diag(curvature).max()))
    influence = jacobian @ np.linalg.solve(curvature, toward)
    naive = float(np.linalg.norm(influence))
    moved = influence * weights * curve.residuals()
    names = sorted(set(scores.seeds))
    degrees = curve.degrees_of_freedom
    if len(names) > 1:
        sums = np.array([moved[np.array(scores.seeds) == name].sum() for name in names])
        error = math.sqrt(len(names) / degrees * float(((sums - sums.mean()) ** 2).sum()))
    else:
        error = naive * math.sqrt(float(((weights * curve.residuals()) ** 2).sum()) / degrees)
    if naive == 0:
        return 0.0, math.inf
    effective = degrees * (1 + (documents / error) ** 2) ** 2 if error else degrees
    return naive, error * t_quantile(effective, confidence)
