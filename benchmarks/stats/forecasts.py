"""How often forecasts of studies with few seeds miss the truth, and how often they are surer than the verdict of the study.

A study has four to six budgets and one to five seeds, whose runs share most of their noise; its loss falls, or nothing happens.
Asked is the change at twice the largest budget, by the functions of a comparison, and the verdict on the largest budget. Beside
it stand what forecasts used before, t with the pooled degrees of freedom of seeds and documents and no look at the verdict, and
the percentile bootstrap over documents and seeds. 500 studies have a standard error of 1 point at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from benchmarks.measure.claims import SHARE, Claim
from benchmarks.stats.designs import FIRST, Design, Drawn, draw_ladders
from benchmarks.stats.fits import LEVEL, bootstrap
from cpt_ray.compare.fits.curves import change_at, fit_tokens, predicted
from cpt_ray.compare.fits.fitted import estimated, estimated_spread
from cpt_ray.compare.fits.spread import spread_of
from cpt_ray.compare.judgment import judge, predict
from cpt_ray.evaluate.intervals import estimate
from cpt_ray.records import Delta, Estimated

SEEDS = (1, 2, 3, 5)
_SUBSETS = 1000


@dataclass(frozen=True)
class Cell:
    """Studies of so many seeds, whose loss falls or stays."""

    seeds: int
    falls: bool


@dataclass
class Counts:
    """Studies of a cell: intervals that cover the truth, and judgments."""

    cell: Cell
    studies: int = 0
    verdicts: int = 0
    """In which the largest budget measurably differs from the base."""
    covered: int = 0
    covered_before: int = 0
    covered_bootstrap: int = 0
    certain: int = 0
    """In which the forecast is called better or worse."""
    certain_before: int = 0
    surer: int = 0
    """In which it is, though the verdict cannot tell."""
    surer_before: int = 0

    def shares(self) -> dict[str, float]:
        """The counts over the number of studies."""
        return {one.name: getattr(self, one.name) / self.studies for one in fields(self)[2:]}


def cells() -> Iterator[Cell]:
    """All cells."""
    for falls in (True, False):
        yield from (Cell(seeds, falls) for seeds in SEEDS)


def simulate(cell: Cell, draws: int) -> Counts:
    """Draw `draws` studies of a cell."""
    counts = Counts(cell)
    for draw in range(draws):
        random = np.random.default_rng([draw, cell.seeds, cell.falls])
        design = Design(
            budgets=int(random.integers(4, 7)),
            seeds=cell.seeds,
            documents=round(math.exp(random.uniform(math.log(30), math.log(400)))),
            shared=random.uniform(0.3, 0.9),
            noisy=bool(random.random() < 0.5),
        )
        tokens = FIRST * 2.0 ** np.arange(design.budgets)
        following = 2 * float(tokens[-1])
        floor = random.uniform(0.5, 0.95) if cell.falls else 1.0
        scale, power = FIRST * math.exp(random.uniform(0, math.log(20))), math.exp(random.uniform(math.log(0.25), 0))
        loss = floor + (1 - floor) * (1 + np.array([*tokens, following]) / scale) ** -power
        drawn = draw_ladders(design, tokens, [loss[:-1]], random)[0]
        _count(counts, drawn, following, float(loss[-1] - 1), random)
    return counts


def _count(counts: Counts, drawn: Drawn, tokens: float, truth: float, random: np.random.Generator) -> None:
    curve = fit_tokens(drawn.ladder, confidence=LEVEL, seed=0).curve
    if curve is None:
        return
    target, measured = change_at(tokens), _measure(drawn, random)
    ours = estimated_spread("change", predicted(curve, drawn.ladder, target, LEVEL))
    before = estimated_spread("change", spread_of(curve, target, LEVEL, describes=True))
    ends = np.quantile(target(*bootstrap(curve, random)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    resampled = estimated("change", truth, float(ends[0]), float(ends[1]))
    better, _ = predict(ours, measured)
    counts.studies += 1
    counts.verdicts += measured.better is not None
    counts.covered += _covers(ours, truth)
    counts.covered_before += _covers(before, truth)
    counts.covered_bootstrap += _covers(resampled, truth)
    counts.certain += better is not None
    counts.certain_before += before.sign != 0
    counts.surer += better is not None and measured.better is None
    counts.surer_before += before.sign != 0 and measured.better is None


def _measure(drawn: Drawn, random: np.random.Generator) -> Delta:
    """The difference of the largest budget to the base, as a comparison judges it."""
    found = estimate(drawn.differences, drawn.sizes, samples=_SUBSETS, random=random)
    delta = Delta(
        measure="bits_per_byte", set_name="set", role="domain", subject="m", reference="base", subject_value=1 + found.value,
        reference_value=1.0, difference=found.value, interval=found.interval(LEVEL, ""), p_value=found.p_value(),
        adjusted_p_value=1.0, smallest_effect=None, relative_percent=None, items=found.units, better=None,
    )  # fmt: skip
    return judge([(delta, found)], LEVEL)[0]


def _covers(found: Estimated, truth: float) -> bool:
    return (found.low is None or found.low <= truth) and (found.high is None or truth <= found.high)


def claims(found: list[Counts]) -> list[Claim]:
    """The worst cells of two and more seeds, with all cells as raw figures; one seed has no claim, and its answers say so."""
    raw = [
        {"seeds": one.cell.seeds, "falls": one.cell.falls, "studies": one.studies}
        | {name: round(value, 4) for name, value in one.shares().items()}
        for one in found
    ]
    several = [one for one in found if one.cell.seeds > 1]
    nothing = [one for one in several if not one.cell.falls]
    drawn = f"{min(one.studies for one in several):,} studies for each number of seeds, 2, 3 and 5"
    coverage, before, resampled = (
        min(one.shares()[name] for one in several) for name in ("covered", "covered_before", "covered_bootstrap")
    )
    return [
        Claim(
            id="stats.forecast_coverage_min", possible=SHARE, value=coverage, unit="share", target=">= 0.93",
            claim=f"smallest share of studies whose 95 % interval covers the change at twice the largest budget; {drawn}",
            compared_with=f"pooled degrees of freedom: {before:.3f}; the percentile bootstrap: {resampled:.3f}", raw=raw,
        ),
        Claim(
            id="stats.forecast_false_max", possible=SHARE, unit="share", target="<= 0.06",
            value=max(one.shares()["certain"] for one in nothing),
            claim="largest share of studies without an effect whose forecast is called a gain or a loss",
            compared_with=f"without a look at the verdict: {max(one.shares()['certain_before'] for one in nothing):.3f}",
        ),
        Claim(
            id="stats.forecast_surer_max", possible=SHARE, unit="share", target="<= 0",
            value=max(one.shares()["surer"] for one in several),
            claim="largest share of studies whose forecast is called a gain or a loss while the verdict cannot tell",
            compared_with=f"without a look at the verdict: {max(one.shares()['surer_before'] for one in several):.3f}",
        ),
    ]  # fmt: skip


def measure(draws: int) -> list[Claim]:
    """Simulate every cell in this process, and print them."""
    found = []
    for cell in cells():
        found.append(simulate(cell, draws))
        figures = ", ".join(f"{name} {value:.3f}" for name, value in found[-1].shares().items())
        print(f"{cell.seeds} seeds, {'falls' if cell.falls else 'stays'}: {figures}", flush=True)
    return claims(found)
