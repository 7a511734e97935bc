"""Bootstrap over documents: seeded, in blocks, shared by single scores and paired differences.

In: per-document sums as columns. Out: the resampled sums, and the percentile interval of a statistic of them.
Memory: at most `_BLOCK_CELLS` resampling counts at a time, however many documents there are.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from cpt_ray.records import Interval

Floats = NDArray[np.float64]

OVER_DOCUMENTS = "bootstrap over documents"

_BLOCK_CELLS = 4_000_000


def generator(seed: int, name: str) -> np.random.Generator:
    """A random generator seeded by a config seed and by `name`, which says what it is used for."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])


def resample_sums(columns: Floats, *, samples: int, random: np.random.Generator) -> Floats:
    """Draw documents with replacement and add up each column, `samples` times.

    All columns of a call share the same resamples, which is what makes a difference paired.

    Args:
        columns: [documents, columns].
        samples: Number of resamples.
        random: Seeded generator.

    Returns:
        Sums [samples, columns].
    """
    # How often each document is drawn, times the columns: the same sums as indexing with replacement, without a copy of the
    # rows per resample. In blocks, because the counts alone take samples x documents integers.
    count = columns.shape[0]
    uniform = np.full(count, 1 / count)
    block = max(1, _BLOCK_CELLS // count)
    parts = [
        random.multinomial(count, uniform, size=min(block, samples - start)) @ columns for start in range(0, samples, block)
    ]
    return np.concatenate(parts).astype(np.float64)


def percentile_interval(values: Floats, *, confidence: float, kind: str) -> Interval:
    """The interval of the central share `confidence` of resampled values (Efron 1979, percentile method)."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(low=float(low), high=float(high), confidence=confidence, kind=kind)


def bits_per_byte(nats: Floats | float, num_bytes: Floats | float) -> Floats:
    """Convert sums of nats and of UTF-8 bytes to bits per byte."""
    return np.asarray(nats, dtype=np.float64) / (math.log(2) * np.asarray(num_bytes, dtype=np.float64))
