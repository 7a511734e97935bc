"""Made-up ladders whose curve is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cpt_ray.compare.fits.ladder import SUBSETS, Ladder
from cpt_ray.evaluate.intervals import Floats

TOKENS = (1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 64e6, 128e6)


def falling(x: Floats, floor: float = 0.7, scale: float = 8e6, power: float = 0.5) -> Floats:
    """A loss that falls from 1 towards `floor`."""
    loss: Floats = floor + (1 - floor) * (1 + x / scale) ** -power
    return loss


def make_ladder(
    curve: Callable[[Floats], Floats] = falling,
    *,
    tokens: Sequence[float] = TOKENS,
    seeds: int = 3,
    noise: float = 1e-3,
    documents: int = 50,
    flops_per_token: float = 1e9,
    base: float = 1.0,
    random_seed: int = 0,
    **changes: Any,
) -> Ladder:
    """A ladder with `noise` between runs, and documents that gain unequally."""
    random = np.random.default_rng(7)
    gains = np.exp(random.normal(0, 0.3, documents))
    gains /= gains.mean()
    chosen = random.random((SUBSETS // 2, documents)) < 0.5
    chosen = np.concatenate([chosen, ~chosen])
    chosen[~chosen.any(axis=1), 0] = True
    x = np.tile(np.array(tokens, dtype=np.float64), seeds)
    noisy = curve(x) + np.random.default_rng(random_seed).normal(0, noise, len(x))
    scored = base - np.outer(base - noisy, gains)
    subsets = chosen @ scored.T / chosen.sum(axis=1, keepdims=True)
    fields: dict[str, Any] = {
        "model": "m", "arm": "legal", "set_name": "law", "role": "domain", "parameters": 100, "documents": documents,
        "share": None, "seeds": tuple(np.repeat(np.arange(seeds), len(tokens)).tolist()),
        "budgets": tuple(int(value) for value in x), "tokens": x, "flops": flops_per_token * x,
        "losses": scored.mean(axis=1), "base": base, "subset_losses": subsets, "subset_base": np.full(len(subsets), base),
    }  # fmt: skip
    return Ladder(**{**fields, **changes})
