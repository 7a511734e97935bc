"""Fit a form to scores, and say what the fit does and does not know: intervals, residuals, points left out, warnings.

Guarantee: no parameter without its interval; where nothing can be fitted, the record says why, and nothing is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import fdtrc

from cpt_ray.compare.fits.forms import Form
from cpt_ray.compare.fits.solve import least_squares, solve
from cpt_ray.compare.fits.spread import Curve, Scores, Spread, fit_curve, spread_of
from cpt_ray.config.sections.evaluate import LEAST_UNITS
from cpt_ray.evaluate import intervals
from cpt_ray.evaluate.intervals import Floats
from cpt_ray.records import Estimated, Fit, LeftOut, SourceRole

LEAST_POINTS, FEW_POINTS = 3, 4
MISFIT = 0.01
"""Largest p-value at which a form is said not to fit."""


class Subject(NamedTuple):
    """What a curve is of."""

    kind: Literal["tokens", "compute", "size", "mix"]
    model: str | None
    arm: str | None
    set_name: str
    role: SourceRole
    documents: int


@dataclass(frozen=True)
class Fitted:
    """The record of a fit, and the curve; None if none was fitted."""

    record: Fit
    curve: Curve | None


def fit(form: Form, subject: Subject, scores: Scores, points: Floats, *, confidence: float, seed: int) -> Fitted:
    """Fit a form.

    Args:
        form: The form.
        subject: What the curve is of.
        scores: What it is fitted to.
        points: [scores], the x of each; scores of equal x are one point.
        confidence: Level of the intervals.
        seed: Of the starts.
    """
    distinct = np.unique(points)
    seeds = len(set(scores.seeds))
    record = Fit(
        kind=subject.kind, formula=form.formula, model=subject.model, arm=subject.arm, set_name=subject.set_name,
        role=subject.role, points=len(distinct), scores=len(points), seeds=seeds, degrees_of_freedom=0,
    )  # fmt: skip
    why = refusal(form, subject, scores, points)
    if why:
        return Fitted(record.model_copy(update={"refused": why}), None)
    name = f"fit/{subject.kind}/{subject.model}/{subject.arm}/{subject.set_name}"
    solution = solve(form, scores.design, scores.losses, random=intervals.generator(seed, name))
    curve = fit_curve(form, scores, solution)
    parameters = [parameter(curve, form.parameters.index(name), confidence) for name in form.reported]
    return Fitted(
        record.model_copy(
            update={
                "degrees_of_freedom": curve.degrees_of_freedom,
                "parameters": tuple(parameters),
                "residual_percent": 100 * float(np.sqrt((np.expm1(curve.residuals()) ** 2).mean())),
                "left_out": tuple(leave_out(curve, points)) if len(distinct) > LEAST_POINTS else (),
                "warnings": tuple(_warnings(curve, parameters, points)),
            }
        ),
        curve,
    )


def refusal(form: Form, subject: Subject, scores: Scores, points: Floats) -> str:
    """Why nothing is fitted to these scores; empty if something can be."""
    distinct, parameters = len(np.unique(points)), len(form.parameters)
    if not np.isfinite(scores.design).all():
        return "the records do not say how much compute each run took"
    if not np.isfinite(scores.losses).all():
        return "a score is not a finite number: delete the evaluation's folder and run `cpt-ray evaluate` again"
    if (scores.losses <= 0).any() or (scores.subset_losses <= 0).any():
        return "a loss is 0 or below, whose logarithm does not exist"
    if distinct < LEAST_POINTS:
        of = {"tokens": "budget", "size": "model size"}.get(subject.kind, "point")
        extra = ", besides the base" if subject.kind == "tokens" else ""
        return f"{distinct} {of}{'s' * (distinct != 1)}: a curve needs at least {LEAST_POINTS}{extra}"
    if subject.documents < LEAST_UNITS:
        return f"{subject.documents} documents are too few for an interval: at least {LEAST_UNITS} are needed"
    if len(set(scores.seeds)) == 1 and len(points) <= parameters:
        return (
            f"{len(points)} scores of one seed and {parameters} parameters leave nothing to estimate the error from: add a "
            "budget or a seed"
        )
    if distinct < parameters:
        return f"{distinct} points and {parameters} parameters: many curves go through all of them; add a budget or an arm"
    if np.ptp(scores.losses) <= 1e-12 * scores.losses.max():
        return "all scores are equal: there is no curve"
    return ""


def parameter(curve: Curve, place: int, confidence: float) -> Estimated:
    """A parameter with its interval; open where the interval reaches the end of what was searched."""
    form, solution = curve.form, curve.solution
    spread = spread_of(curve, lambda searched, _: searched[..., place], confidence, describes=True)
    low, high = spread.bounds()
    room = 1e-3 * (solution.high[place] - solution.low[place])
    # A search that ends at a wall says nothing of what lies on the other side of the estimate.
    stuck = bool(solution.free) and place not in solution.free
    low = low if low > solution.low[place] + room and not stuck else -np.inf
    high = high if high < solution.high[place] - room and not stuck else np.inf
    natural = np.exp if form.logged[place] else float
    return estimated(form.parameters[place], float(natural(spread.value)), natural(low), natural(high), form.logged[place])


def estimated(name: str, value: float, low: float, high: float, positive: bool = False) -> Estimated:
    """A record of a value; an end that is infinite, or 0 for what is positive, is none."""
    least = low if np.isfinite(low) and not (positive and low <= 0) else None
    return Estimated(name=name, value=value, low=least, high=high if np.isfinite(high) else None)


def estimated_spread(name: str, spread: Spread) -> Estimated:
    """A record of a spread."""
    return estimated(name, spread.value, *spread.bounds())


def leave_out(curve: Curve, points: Floats) -> list[LeftOut]:
    """Each point predicted from a fit to all others."""
    form, scores, solution = curve.form, curve.scores, curve.solution
    observed, distinct = np.log(scores.losses), np.unique(points)
    starts = np.stack([solution.searched, (solution.searched + (solution.low + solution.high) / 2) / 2])
    kept = np.repeat(points[None] != distinct[:, None], len(starts), axis=0)
    weights = np.sqrt(solution.weights) * kept

    def wrong(searched: Floats) -> Floats:
        off: Floats = weights * (form.log_loss(searched, scores.design[None]) - observed)
        return off

    refits, costs = least_squares(wrong, np.tile(starts, (len(distinct), 1)), (solution.low, solution.high))
    best = costs.reshape(len(distinct), -1).argmin(axis=1)
    found = []
    for place, x in enumerate(distinct):
        refit, out = refits[place * len(starts) + best[place]], points == x
        predicted = float(np.exp(form.log_loss(refit, scores.design[out])).mean())
        found.append(LeftOut(x=float(x), measured=float(scores.losses[out].mean()), predicted=predicted))
    return found


def lack_of_fit(curve: Curve, points: Floats) -> float | None:
    """The p-value of an F test: residuals that the seeds of a point share, against the spread between its seeds.

    None where no point has several seeds, or there are no more points than parameters.
    """
    residuals, distinct = curve.residuals(), np.unique(points)
    groups = [residuals[points == x] for x in distinct]
    left, within = len(distinct) - len(curve.form.parameters), len(points) - len(distinct)
    error = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    if left < 1 or within < 1 or error == 0:
        return None
    shared = sum(len(group) * float(group.mean()) ** 2 for group in groups)
    return float(fdtrc(left, within, (shared / left) / (error / within)))


def _warnings(curve: Curve, parameters: Sequence[Estimated], points: Floats) -> list[str]:
    lines = []
    distinct = len(np.unique(points))
    if distinct <= FEW_POINTS:
        lines.append(f"{distinct} points: a curve through so few fits almost anything")
    if len(set(curve.scores.seeds)) == 1:
        lines.append("one seed: the error between runs is taken from the residuals, which hide what all runs share")
    misfit = lack_of_fit(curve, points)
    if misfit is not None and misfit < MISFIT:
        lines.append(f"the form misses what all seeds agree on (lack of fit, p = {misfit:.2g})")
    lines += [curve.form.undetermined] if curve.form.undetermined else []
    loose = [one.name for one in parameters if one.low is None or one.high is None]
    if loose:
        lines.append(f"{', '.join(loose)} not bounded by the scores")
    if curve.form.name == "tokens":
        base = float(curve.scores.design[:, 1].mean())
        if parameters[0].value > base:
            lines.append("the loss rises with tokens: E lies above the base")
    return lines
