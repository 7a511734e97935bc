"""How often intervals are wrong: simulated studies of equal models and of planted effects, few documents, few seeds.

Documents have equal, log-normal or Pareto lengths, and score
errors whose standard deviation grows with the square root of the length. An equal-model study is wrong if its interval excludes
0, one with a planted effect if it excludes the effect. The percentile bootstrap over documents (and seeds), which is what most
evaluations print, is simulated beside ours.
10,000 studies per cell have a standard error of 0.2 points at 5 %.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.measure.claims import SHARE, Claim
from cpt_ray.evaluate.intervals import Floats, estimate

LEVEL = 0.05
KINDS = ("equal", "log-normal", "Pareto")
DOCUMENTS = (10, 20, 50, 200)
SEEDS, SEED_NOISE = (2, 3, 5, 8), (0.0, 0.002, 0.005, 0.02)
NOISE, OWN_NOISE = 0.05, 0.02
"""Bits per byte of a document of 1,000 bytes: shared by the seeds of a model, and of each seed alone."""
EFFECT, SPREAD = 0.03, 0.5
"""A planted effect in bits per byte, and the standard deviation of its logarithm over documents."""
_SUBSETS = 400


@dataclass(frozen=True)
class Cell:
    """A design: documents, their lengths, seeds, the noise between seeds, and a planted effect in bits per byte."""

    documents: int
    kind: str
    seeds: int = 1
    seed_noise: float = 0.0
    effect: float = 0.0


@dataclass(frozen=True)
class Wrong:
    """Shares of studies whose interval misses the truth."""

    cell: Cell
    ours: float
    bootstrap: float


def cells() -> Iterator[Cell]:
    """All designs."""
    for effect in (0.0, EFFECT):
        for kind in KINDS:
            yield from (Cell(documents, kind, effect=effect) for documents in DOCUMENTS)
        for seeds in SEEDS:
            yield from (Cell(50, "log-normal", seeds, noise, effect) for noise in SEED_NOISE)


def simulate(cell: Cell, draws: int) -> Wrong:
    """Draw `draws` studies of a design."""
    random = np.random.default_rng(
        [cell.documents, KINDS.index(cell.kind), cell.seeds, int(1e4 * cell.seed_noise), int(1e4 * cell.effect)]
    )
    wrong = np.zeros(2)
    for _ in range(draws):
        weights = _lengths(cell, random)
        scale = np.sqrt(1000 * weights)
        # Documents gain unequally: the effect varies by half of itself, log-normally.
        gains = cell.effect * np.exp(random.normal(-(SPREAD**2) / 2, SPREAD, cell.documents))
        values = gains * weights + random.normal(0, NOISE, cell.documents) * scale
        own = random.normal(0, OWN_NOISE, (cell.seeds, cell.documents)) * scale
        shifts = np.outer(random.normal(0, cell.seed_noise, cell.seeds), weights)
        differences = values + own + shifts
        ours = estimate(differences, weights, samples=_SUBSETS, random=random).bounds(1 - LEVEL)
        for place, (low, high) in enumerate((ours, _bootstrap(differences, weights, random))):
            wrong[place] += not low <= cell.effect <= high
    return Wrong(cell, *(wrong / draws).tolist())


def _lengths(cell: Cell, random: np.random.Generator) -> Floats:
    if cell.kind == "equal":
        return np.full(cell.documents, 1000.0)
    if cell.kind == "log-normal":
        return np.exp(random.normal(7, 1, cell.documents))
    return 300 * (1 + random.pareto(1.5, cell.documents))


def _bootstrap(differences: Floats, weights: Floats, random: np.random.Generator) -> tuple[float, float]:
    """The percentile bootstrap over documents and seeds."""
    seeds, units = differences.shape
    counts = random.multinomial(units, np.full(units, 1 / units), size=_SUBSETS)
    ratios = counts @ differences.T / (counts @ weights)[:, None]
    drawn = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=_SUBSETS) / seeds
    low, high = np.percentile((ratios * drawn).sum(axis=1), [100 * LEVEL / 2, 100 - 100 * LEVEL / 2])
    return float(low), float(high)


def claims(found: list[Wrong], draws: int) -> list[Claim]:
    """The worst cell of each kind, with all cells as raw figures."""
    equal = [one for one in found if one.cell.seeds == 1 and not one.cell.effect]
    planted = [one for one in found if one.cell.seeds == 1 and one.cell.effect]
    seeded = [one for one in found if one.cell.seeds > 1 and not one.cell.effect]
    planted_seeded = [one for one in found if one.cell.seeds > 1 and one.cell.effect]
    raw = [
        {
            "documents": one.cell.documents, "lengths": one.cell.kind, "seeds": one.cell.seeds,
            "seed_noise": one.cell.seed_noise, "effect": one.cell.effect, "ours": round(one.ours, 4),
            "bootstrap": round(one.bootstrap, 4),
        }
        for one in found
    ]  # fmt: skip
    worst, against = (
        "largest share of studies of equal models that find a difference at 95 %, of ",
        "the percentile bootstrap: ",
    )
    return [
        Claim(
            id="stats.false_positive_max", possible=SHARE, value=max(one.ours for one in equal), unit="share", target="<= 0.06",
            claim=f"{worst}10 to 200 documents of equal, log-normal and Pareto lengths, {draws:,} studies each",
            compared_with=f"{against}{max(one.bootstrap for one in equal):.3f}", raw=raw,
        ),
        Claim(
            id="stats.false_positive_min", possible=SHARE, unit="share", target=">= 0.04",
            value=min(one.ours for one in equal if one.cell.documents >= 50),
            claim="smallest such share of 50 and 200 documents: below it, differences would be overlooked",
        ),
        Claim(
            id="stats.seed_false_positive_max", possible=SHARE, value=max(one.ours for one in seeded), unit="share",
            target="<= 0.06",
            claim=f"{worst}2 to 8 seeds with a noise of 0 to 0.02 bits per byte between them, 50 documents, {draws:,} each",
            compared_with=f"{against}{max(one.bootstrap for one in seeded):.3f}",
        ),
        Claim(
            id="stats.seed_false_positive_min", possible=SHARE, value=min(one.ours for one in seeded), unit="share",
            target=">= 0.04",
            claim="smallest such share: the joined error of seeds and documents is conservative, and overlooks small effects",
        ),
        Claim(
            id="stats.seed_coverage_max", possible=SHARE, value=1 - min(one.ours for one in planted_seeded), unit="share",
            target="<= 0.98",
            claim=f"largest share of studies of 2 to 8 seeds whose interval covers a planted effect of {EFFECT} bits per byte",
            compared_with=f"smallest: {1 - max(one.ours for one in planted_seeded):.3f}",
        ),
        Claim(
            id="stats.coverage_min", possible=SHARE, value=1 - max(one.ours for one in planted), unit="share", target=">= 0.93",
            claim=f"smallest share of studies whose interval covers a planted effect of {EFFECT} bits per byte, {draws:,} each",
            compared_with=f"{against}{1 - max(one.bootstrap for one in planted):.3f}",
        ),
        Claim(
            id="stats.coverage_max", possible=SHARE, value=1 - min(one.ours for one in planted), unit="share", target="<= 0.98",
            claim="largest such share: above it, intervals would be wider than they need be",
        ),
    ]  # fmt: skip


def measure(draws: int) -> list[Claim]:
    """Simulate every cell, and print them."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for the workers: their matrices are small
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(simulate, list(cells()), [draws] * len(list(cells()))))
    for one in found:
        cell = one.cell
        print(
            f"{cell.documents:4d} documents, {cell.kind:10s} {cell.seeds} seeds, noise {cell.seed_noise:.3f}, "
            f"effect {cell.effect:.2f}: wrong {one.ours:.4f}, bootstrap {one.bootstrap:.4f}"
        )
    return claims(found, draws)
