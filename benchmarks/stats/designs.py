"""Simulated scaling studies: designs, and the scores that their runs would have on documents of unequal length and gain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cpt_ray.compare.fits.ladder import SUBSETS, Ladder
from cpt_ray.evaluate.intervals import Floats

FIRST = 1e6
"""Tokens of the smallest budget; each is twice the one before."""
SHARES = (0.25, 0.5, 0.75, 1.0)
GAINS, OWN_NOISE, BASES = 0.5, 0.02, 0.2
"""Standard deviations: of the log of a document's gain; of a run on a document of 1,000 bytes; of bases over documents."""


@dataclass(frozen=True)
class Design:
    """What a study has: budgets, seeds, documents, and the share of a run's noise that all runs of its seed have in common."""

    budgets: int
    seeds: int
    documents: int
    shared: float
    noisy: bool = False
    """Whether the noise of runs is 0.005 to 0.02 bits per byte, instead of a tenth to a quarter of that."""

    @classmethod
    def draw(cls, random: np.random.Generator, *, most_budgets: int, least_budgets: int = 8) -> Design:
        """A design of at least eight budgets and three seeds, 30 to 400 documents, noise from independent to nearly shared."""
        return cls(
            budgets=int(random.integers(least_budgets, most_budgets + 1)),
            seeds=int(random.integers(3, 6)),
            documents=round(math.exp(random.uniform(math.log(30), math.log(400)))),
            shared=random.uniform(0, 0.9),
        )


@dataclass(frozen=True)
class Drawn:
    """A ladder, and its largest budget by document.

    Attributes:
        ladder: The scores.
        differences: [seeds, documents], to the base, in bits.
        sizes: [documents], bytes.
    """

    ladder: Ladder
    differences: Floats
    sizes: Floats


def draw_ladders(cell: Design, tokens: Floats, curves: list[Floats], random: np.random.Generator) -> list[Drawn]:
    """Ladders whose mean losses over documents and runs follow the curves; documents and base are shared."""
    sizes = np.exp(random.normal(7, 1, cell.documents))
    bases = 1 + random.normal(0, BASES, cell.documents)
    gains = np.exp(random.normal(-(GAINS**2) / 2, GAINS, cell.documents))
    least, most = (5e-3, 2e-2) if cell.noisy else (5e-4, 5e-3)
    noise = math.exp(random.uniform(math.log(least), math.log(most)))
    chosen = random.random((SUBSETS // 2, cell.documents)) < 0.5
    weights = np.concatenate([chosen, ~chosen]) * sizes
    weights /= weights.sum(axis=1, keepdims=True)
    drawn = []
    for share, curve in zip(SHARES, curves, strict=False):
        true = np.tile(curve, cell.seeds)
        shifts = np.repeat(random.normal(0, noise * math.sqrt(cell.shared), cell.seeds), cell.budgets)
        shifts += random.normal(0, noise * math.sqrt(1 - cell.shared), len(true))
        own = random.normal(0, OWN_NOISE, (len(true), cell.documents)) * np.sqrt(1000 / sizes)
        scored = bases - np.outer(1 - true, gains) + shifts[:, None] + own
        ladder = Ladder(
                model="m", arm=f"arm{share}", set_name="set", role="domain", parameters=None, documents=cell.documents,
                share=share, seeds=tuple(np.repeat(np.arange(cell.seeds), cell.budgets).tolist()),
                budgets=tuple(np.tile(tokens, cell.seeds).astype(int).tolist()), tokens=np.tile(tokens, cell.seeds),
                flops=np.tile(tokens, cell.seeds), losses=scored @ sizes / sizes.sum(), base=float(bases @ sizes / sizes.sum()),
                subset_losses=weights @ scored.T, subset_base=weights @ bases,
            )  # fmt: skip
        at_the_end = scored[cell.budgets - 1 :: cell.budgets]
        drawn.append(Drawn(ladder, (at_the_end - bases) * sizes, sizes))
    return drawn
