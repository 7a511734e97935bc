"""How often intervals of fitted curves miss the truth: simulated scaling studies, fitted by the functions of a comparison.

A study draws its design, a curve, documents of log-normal lengths that gain unequally (the logarithm of their gains has a
standard deviation of 0.5), and runs with noise of their own and noise that all runs of a seed share, as branches of a trunk do.
Asked are every parameter and the prediction at twice the largest budget. The percentile bootstrap over documents and seeds,
refitted by the same optimizer, is simulated beside ours. 500 studies have a standard error of 1 point at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.measure.claims import SHARE, Claim
from benchmarks.stats.designs import FIRST, SHARES, Design, draw_ladders
from cpt_ray.compare.efficiency import CONTROLS_BEST, ratios
from cpt_ray.compare.fits.curves import change_at, fit_compute, fit_mix, fit_tokens, loss_at, predicted
from cpt_ray.compare.fits.fitted import Fitted, estimated
from cpt_ray.compare.fits.forms import MIX, POWER
from cpt_ray.compare.fits.ladder import Ladder
from cpt_ray.compare.fits.solve import least_squares
from cpt_ray.compare.fits.spread import Curve, Target, spread_of
from cpt_ray.evaluate.intervals import Floats

LEVEL = 0.95
FALLING = 2 / 3
"""Share of curves in tokens that fall, like gains; the others rise, like forgetting."""


@dataclass
class Counts:
    """Studies of a kind; for each question, how many intervals cover the truth, are open, and how many bootstraps cover it."""

    kind: str
    studies: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    """Studies with an interval, where not all have one."""
    covered: dict[str, int] = field(default_factory=dict)
    unbounded: dict[str, int] = field(default_factory=dict)
    bootstrap: dict[str, int] = field(default_factory=dict)


KINDS = ("tokens", "power", "mix", "ratio", "noisy")
"""Curves in tokens, power laws, the D-CPT form, efficiency ratios, and curves in tokens of runs whose seeds differ much."""


def simulate(kind: str, draws: int, *, first: int = 0) -> Counts:
    """Draw `draws` studies of a kind from number `first` on, fit them, and count."""
    counts = Counts(kind)
    for draw in range(first, first + draws):
        random = np.random.default_rng([draw, KINDS.index(kind)])
        if kind == "ratio":
            _count_ratios(counts, random)
            continue
        fitted, truth, asked, ladder = _study(kind, random)
        if fitted.curve is None:
            continue
        counts.studies += 1
        found = {one.name: one for one in fitted.record.parameters}
        for name, target in asked.items():
            spread = spread_of(fitted.curve, target, LEVEL)
            if ladder is not None:
                spread = predicted(fitted.curve, ladder, target, LEVEL)
            found[name] = estimated(name, 0.0, *spread.bounds())
        drawn = bootstrap(fitted.curve, random)
        for name, true in truth.items():
            low, high = found[name].low, found[name].high
            _add(counts.covered, name, (low is None or low <= true) and (high is None or true <= high))
            _add(counts.unbounded, name, low is None or high is None)
            values = asked[name](*drawn) if name in asked else _natural(fitted.curve, drawn[0], name)
            ends = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            _add(counts.bootstrap, name, bool(ends[0] <= true <= ends[1]))
    return counts


def _count_ratios(counts: Counts, random: np.random.Generator) -> None:
    """A domain arm and its control, whose curve is stretched, and so slower by a known factor at the control's last loss."""
    design = Design.draw(random, most_budgets=12)
    tokens = FIRST * 2.0 ** np.arange(design.budgets)
    floor, power = random.uniform(0.5, 0.9), math.exp(random.uniform(math.log(0.25), 0))
    scale, slower = FIRST * math.exp(random.uniform(0, math.log(20))), math.exp(random.uniform(math.log(1.3), math.log(6)))
    losses = [floor + (1 - floor) * (1 + tokens / (factor * scale)) ** -power for factor in (1.0, slower)]
    arm, control = (one.ladder for one in draw_ladders(design, tokens, losses, random))
    control = replace(control, arm="control")
    curves = {(one.model, one.arm, one.set_name): fit_tokens(one, confidence=LEVEL, seed=0) for one in (arm, control)}
    counts.studies += 1
    for found in ratios([arm, control], curves, frozenset({"control"}), LEVEL):
        if found.target == CONTROLS_BEST and found.ratio is not None:
            low, high = found.ratio.low, found.ratio.high
            _add(counts.covered, found.basis, (low is None or low <= slower) and (high is None or slower <= high))
            _add(counts.unbounded, found.basis, low is None or high is None)
            _add(counts.answered, found.basis, True)


def _add(counts: dict[str, int], name: str, happened: bool) -> None:
    counts[name] = counts.get(name, 0) + int(happened)


def _study(kind: str, random: np.random.Generator) -> tuple[Fitted, dict[str, float], dict[str, Target], Ladder | None]:
    """A fitted study, the truth of all that is asked, the questions that are not parameters, and the ladder in tokens."""
    # With four shares, five budgets are twenty points.
    least, most = (4, 6) if kind == "mix" else (8, 12)
    cell = replace(Design.draw(random, least_budgets=least, most_budgets=most), noisy=kind == "noisy")
    tokens = FIRST * 2.0 ** np.arange(cell.budgets)
    following = 2 * float(tokens[-1])
    if kind == "mix":
        return *_mix_study(cell, tokens, following, random), None
    if kind == "power":
        exponent, scale = random.uniform(0.02, 0.15), random.uniform(0.6, 1.2)
        ladder = draw_ladders(cell, tokens, [scale * (tokens / tokens[-1]) ** -exponent], random)[0].ladder
        fitted = fit_compute(ladder, confidence=LEVEL, seed=0)
        truth = {"a": scale, "b": exponent, "prediction": scale * 2**-exponent}
        return fitted, truth, {"prediction": _power_at(2.0)}, None
    falls = random.random() < FALLING
    floor = random.uniform(0.5, 0.9) if falls else random.uniform(1.1, 1.5)
    power = math.exp(random.uniform(math.log(0.25), math.log(1)))
    scale = FIRST * math.exp(random.uniform(0, math.log(20)))

    def curve(x: Floats) -> Floats:
        loss: Floats = floor + (1 - floor) * (1 + x / scale) ** -power
        return loss

    ladder = draw_ladders(cell, tokens, [curve(tokens)], random)[0].ladder
    predicted = float(curve(np.array(following)))
    truth = {"E": floor, "x0": scale, "b": power, "change": predicted - 1, "loss": predicted}
    asked = {"change": change_at(following), "loss": loss_at(following)}
    return fit_tokens(ladder, confidence=LEVEL, seed=0), truth, asked, ladder


def _mix_study(
    cell: Design, tokens: Floats, following: float, random: np.random.Generator
) -> tuple[Fitted, dict[str, float], dict[str, Target]]:
    law = {
        "E": random.uniform(0.4, 0.6), "B": random.uniform(0.05, 0.15), "eta": random.uniform(0.1, 0.5),
        "beta": random.uniform(0.1, 0.4), "C": random.uniform(0.02, 0.08), "gamma": random.uniform(0.3, 0.8), "epsilon": 0.1,
    }  # fmt: skip
    searched = np.log([law[name] for name in MIX.parameters])

    def losses(share: float, x: Floats) -> Floats:
        design = np.stack([x / tokens[-1], np.full(len(x), share)], axis=-1)
        found: Floats = np.exp(MIX.log_loss(searched, design))
        return found

    ladders = [one.ladder for one in draw_ladders(cell, tokens, [losses(share, tokens) for share in SHARES], random)]
    fitted = fit_mix(ladders, confidence=LEVEL, seed=0)
    if fitted is None:
        raise ValueError("a study of several shares must be fitted")

    def target(found: Floats, _: Floats) -> Floats:
        loss: Floats = np.exp(MIX.log_loss(found, np.array([[2.0, 0.6]])))[..., 0]
        return loss

    truth = {name: law[name] for name in MIX.reported}
    return fitted, truth | {"prediction": float(losses(0.6, np.array([following]))[0])}, {"prediction": target}


def _power_at(x: float) -> Target:
    def target(searched: Floats, _: Floats) -> Floats:
        loss: Floats = np.exp(POWER.log_loss(searched, np.array([[x]])))[..., 0]
        return loss

    return target


def bootstrap(curve: Curve, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Refits on resampled seeds and documents: parameters [subsets, parameters], and designs.

    Half-samples stand in for resampled documents: they have the same variance.
    """
    scores, solution = curve.scores, curve.solution
    seeds = np.array(scores.seeds)
    names = np.unique(seeds)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=len(scores.subset_losses))
    weights = np.sqrt(solution.weights * drawn[:, np.searchsorted(names, seeds)])
    observed = np.log(scores.subset_losses)

    def wrong(searched: Floats) -> Floats:
        found: Floats = weights * (curve.form.log_loss(searched, scores.subset_designs) - observed)
        return found

    starts = np.tile(solution.searched, (len(observed), 1))
    return least_squares(wrong, starts, (solution.low, solution.high))[0], scores.subset_designs


def _natural(curve: Curve, searched: Floats, name: str) -> Floats:
    place = curve.form.parameters.index(name)
    values: Floats = np.exp(searched[:, place]) if curve.form.logged[place] else searched[:, place]
    return values


def _shares(counts: Counts) -> Iterator[dict[str, str | float | None]]:
    """A row for each question: the shares of its studies."""
    for name in counts.covered:
        studies = counts.answered.get(name, counts.studies)
        drawn = counts.bootstrap.get(name)
        yield {
            "kind": counts.kind, "studies": studies, "asked": name, "covered": round(counts.covered[name] / studies, 4),
            "unbounded": round(counts.unbounded[name] / studies, 4),
            "bootstrap": None if drawn is None else round(drawn / studies, 4),
        }  # fmt: skip


def claims(found: list[Counts]) -> list[Claim]:
    """The worst coverage over all kinds and questions, with all of them as raw figures."""
    raw = [row for one in found for row in _shares(one)]
    covered = [float(row["covered"] or 0) for row in raw]
    bootstrap = [float(row["bootstrap"]) for row in raw if row["bootstrap"] is not None]
    studies = ", ".join(f"{one.studies} of {one.kind}" for one in found)
    return [
        Claim(
            id="stats.fit_coverage_min", possible=SHARE, value=min(covered), unit="share", target=">= 0.9",
            claim="smallest share of studies whose 95 % interval covers the truth, over parameters and predictions of fitted "
            f"curves and efficiency ratios; studies: {studies}",
            compared_with=f"the percentile bootstrap over documents and seeds: {min(bootstrap):.3f}", raw=raw,
        ),
        Claim(
            id="stats.fit_coverage_max", possible=SHARE, value=max(covered), unit="share", target="<= 0.98",
            claim="largest such share: above it, intervals would be wider than they need be",
        ),
    ]  # fmt: skip


def measure(draws: int) -> list[Claim]:
    """Simulate every kind in this process, and print them."""
    found = []
    for kind in KINDS:
        found.append(simulate(kind, draws))
        for row in _shares(found[-1]):
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return claims(found)
