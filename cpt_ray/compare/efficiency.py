"""The specialized-to-general efficiency ratio: compute of the control over that of a domain arm, for the same domain loss.

After Malaquias Junior et al. 2025 (arXiv 2501.02068), which compares the compute at which specialized and general training
reach their lowest perplexity. Here both must reach the same loss: the control's lowest, or the arm's lowest. Where that is the
loss of the last budget, the curve was still falling: the minimum is censored, and the record says so. Measured curves
begin at the base, fall monotonically (the best so far), and are interpolated in the logarithm of FLOPs, linearly before the
first budget; fitted ones are those of `fits.curves`. A side that never gets there makes the ratio a bound, not a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cpt_ray.compare.fits.curves import FURTHEST, log_tokens_to
from cpt_ray.compare.fits.fitted import Fitted, Subject, estimated, fit
from cpt_ray.compare.fits.forms import POWER
from cpt_ray.compare.fits.ladder import Ladder
from cpt_ray.compare.fits.spread import Scores, spread_of
from cpt_ray.evaluate.intervals import Estimate, Floats
from cpt_ray.records import EfficiencyRatio, RatioTrend

DEFINITION = (
    "Efficiency ratio: the FLOPs that the control needs to reach a loss on the domain, divided by those that the domain arm "
    "needs for the same loss; above 1, domain text is the cheaper way. > and <: the control, or the arm, never reached it."
)
CENSORED = (
    "\N{DAGGER}: censored: that lowest loss is the one at the last budget, where the curve was still falling. With more tokens "
    "it would be lower, and the ratio another."
)
CONTROLS_BEST, ARMS_BEST = "the control's lowest loss", "the arm's lowest loss"
Curves = Mapping[tuple[str, str, str], Fitted]
"""Token curves by model, arm and set."""


def ratios(ladders: Sequence[Ladder], curves: Curves, controls: frozenset[str], confidence: float) -> list[EfficiencyRatio]:
    """Every domain arm against every control of its model, on domain sets."""
    found = []
    for arm, control in _pairs(ladders, controls):
        for target in (CONTROLS_BEST, ARMS_BEST):
            found.append(_measured(arm, control, target, confidence))
            fitted = _fitted(arm, control, target, curves, confidence)
            if fitted is not None:
                found.append(fitted)
    return found


def trends(ladders: Sequence[Ladder], controls: frozenset[str], *, confidence: float, seed: int) -> list[RatioTrend]:
    """The measured ratio's power law over parameters, for studies with several sizes."""
    groups: dict[tuple[str, str, str], list[tuple[Ladder, Ladder]]] = {}
    for arm, control in _pairs(ladders, controls):
        groups.setdefault((arm.arm, control.arm, arm.set_name), []).append((arm, control))
    return [_trend(pairs, confidence, seed) for pairs in groups.values() if len(pairs) > 1]


def reach(flops: Floats, losses: Floats, base: float, target: float) -> float:
    """FLOPs at which a measured curve first reaches a loss; infinite if it does not."""
    best = np.minimum.accumulate(np.minimum(losses, base))
    there = np.flatnonzero(best <= target * (1 + 1e-12))
    if not len(there):
        return math.inf
    place = int(there[0])
    before = (0.0, base) if place == 0 else (float(flops[place - 1]), float(best[place - 1]))
    share = (before[1] - target) / (before[1] - best[place]) if before[1] > best[place] else 1.0
    share = min(max(share, 0.0), 1.0)
    end = float(flops[place])
    return float(end * share) if place == 0 else float(before[0] * (end / before[0]) ** share)


def _pairs(ladders: Sequence[Ladder], controls: frozenset[str]) -> Iterable[tuple[Ladder, Ladder]]:
    for arm in ladders:
        for control in ladders:
            same = (arm.model, arm.set_name) == (control.model, control.set_name)
            if same and arm.role == "domain" and arm.arm not in controls and control.arm in controls:
                yield arm, control


def _log_ratio(
    arm: Ladder, control: Ladder, losses: tuple[Floats, Floats], base: float, target: str, seed: int | None
) -> float:
    """Log of the ratio; infinite or minus infinite if a side never reaches the loss, NaN if the loss is the base's."""
    (arm_flops, arm_losses), (control_flops, control_losses) = arm.steps(losses[0], seed), control.steps(losses[1], seed)
    goal = float((control_losses if target == CONTROLS_BEST else arm_losses).min())
    if goal >= base:
        return math.nan
    spent = reach(control_flops, control_losses, base, goal), reach(arm_flops, arm_losses, base, goal)
    if 0 in spent:
        return math.nan
    return math.log(spent[0]) - math.log(spent[1]) if math.isfinite(spent[1]) else -math.inf


def _measured(arm: Ladder, control: Ladder, target: str, confidence: float) -> EfficiencyRatio:
    goal = float((control if target == CONTROLS_BEST else arm).steps(_of(arm, control, target).losses)[1].min())
    record = _record(arm, control, target, goal, "measured")
    value = _log_ratio(arm, control, (arm.losses, control.losses), arm.base, target, None)
    if math.isnan(value):
        who = "control" if target == CONTROLS_BEST else "arm"
        return record.model_copy(update={"missing": f"the {who} never fell below the base"})
    if math.isinf(value):
        loser, winner = (control, arm) if value > 0 else (arm, control)
        least = math.log(loser.steps(loser.losses)[0].max()) - math.log(reach(*winner.steps(winner.losses), arm.base, goal))
        bound = math.exp(least if value > 0 else -least)
        return record.model_copy(update={"bound": ">" if value > 0 else "<", "bound_value": bound})
    subsets = np.array([
        _log_ratio(arm, control, (ours, theirs), float(base), target, None)
        for ours, theirs, base in zip(arm.subset_losses, control.subset_losses, arm.subset_base, strict=True)
    ])  # fmt: skip
    if np.isnan(subsets).any():
        return record.model_copy(update={"missing": "on some subsets of the documents, nothing fell below the base"})
    seeds = sorted(set(arm.seeds) & set(control.seeds))
    by_seed = [_log_ratio(arm, control, (arm.losses, control.losses), arm.base, target, seed) for seed in seeds]
    if len(seeds) > 1 and not np.isfinite(by_seed).all():
        return record.model_copy(update={"missing": "the runs of one seed never reached the loss"})
    low, high = Estimate(value, np.sort(subsets), np.array(by_seed), arm.documents, "").bounds(confidence, describes=True)
    ratio = estimated("ratio", math.exp(value), math.exp(low), math.exp(high) if high < 700 else math.inf, positive=True)
    return record.model_copy(update={"ratio": ratio})


def _fitted(arm: Ladder, control: Ladder, target: str, curves: Curves, confidence: float) -> EfficiencyRatio | None:
    """The ratio by both curves at the measured loss; None if one of them was not fitted."""
    ours, theirs = (curves[one.model, one.arm, one.set_name].curve for one in (arm, control))
    if ours is None or theirs is None:
        return None
    goal = float((control if target == CONTROLS_BEST else arm).steps(_of(arm, control, target).losses)[1].min())
    record = _record(arm, control, target, goal, "fitted")
    if goal >= arm.base:
        return record.model_copy(update={"missing": "nothing fell below the base"})
    wanted = log_tokens_to(arm.base - goal)
    spent, saved = (spread_of(curve, wanted, confidence, describes=True) for curve in (theirs, ours))
    shift = math.log(control.flops_per_token) - math.log(arm.flops_per_token)
    far = [math.log(FURTHEST * one.tokens.max()) - 1e-6 for one in (control, arm)]
    if spent.value >= far[0] or saved.value >= far[1]:
        never = "control" if spent.value >= far[0] else "arm"
        return record.model_copy(update={"missing": f"by its curve, the {never} never reaches the loss"})
    difference = spent.minus(saved)
    low, high = difference.bounds()
    # Beyond what is searched, the control's curve never gets there.
    high = math.inf if difference.high == math.inf or high > far[0] - saved.value else high
    ratio = estimated("ratio", math.exp(difference.value + shift), math.exp(low + shift), math.exp(high + shift), positive=True)
    return record.model_copy(update={"ratio": ratio})


def _of(arm: Ladder, control: Ladder, target: str) -> Ladder:
    return control if target == CONTROLS_BEST else arm


def _record(arm: Ladder, control: Ladder, target: str, goal: float, basis: str) -> EfficiencyRatio:
    whose = _of(arm, control, target)
    means = whose.steps(whose.losses)[1]
    return EfficiencyRatio(
        model=arm.model, parameters=arm.parameters, arm=arm.arm, control=control.arm, set_name=arm.set_name,
        basis=basis, target=target, target_loss=goal, ratio=None,
        censored=goal < arm.base and int(means.argmin()) == len(means) - 1,
    )  # fmt: skip


def _trend(pairs: Sequence[tuple[Ladder, Ladder]], confidence: float, seed: int) -> RatioTrend:
    arm = pairs[0][0]
    trend = RatioTrend(arm=arm.arm, set_name=arm.set_name, target=CONTROLS_BEST, sizes=len(pairs), exponent=None)
    if any(one.parameters is None for one, _ in pairs):
        return trend.model_copy(update={"missing": "the size of a model is not known"})
    # Over the mean of the seeds: how far sizes lie off a power law says more of its error than how far seeds do.
    sizes = [float(ours.parameters or 0) for ours, _ in pairs]
    values = [_log_ratio(ours, theirs, (ours.losses, theirs.losses), ours.base, CONTROLS_BEST, None) for ours, theirs in pairs]
    subsets = [
        [
            _log_ratio(ours, theirs, (left, right), float(base), CONTROLS_BEST, None)
            for left, right, base in zip(ours.subset_losses, theirs.subset_losses, ours.subset_base, strict=True)
        ]
        for ours, theirs in pairs
    ]
    by_subset = np.array(subsets).T
    # A few subsets without a ratio would bias the rest; any number of them is said.
    if not (np.isfinite(values).all() and np.isfinite(by_subset).all()):
        return trend.model_copy(update={"missing": "at one size the ratio is only a bound, or not measurable"})
    x = np.array(sizes)
    design = (x / x.max())[:, None]
    scores = Scores(
        design, np.exp(values), (0,) * len(pairs), np.broadcast_to(design, (len(by_subset), *design.shape)), np.exp(by_subset)
    )
    subject = Subject("size", None, arm.arm, arm.set_name, "domain", arm.documents)
    found = fit(POWER, subject, scores, x, confidence=confidence, seed=seed)
    if found.curve is None:
        return trend.model_copy(update={"missing": found.record.refused})
    spread = spread_of(found.curve, lambda searched, _: -searched[..., 1], confidence, describes=True)
    return trend.model_copy(update={"exponent": estimated("exponent", spread.value, *spread.bounds())})
