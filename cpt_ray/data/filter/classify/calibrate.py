"""From margins to probabilities, and how well they hold.

In: margins of documents whose class is known. Out: a `Calibration`. Memory: one number per document.

Guarantee: a probability increases with its margin, so calibration never changes the order of documents.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cpt_ray.edges.packages import needed_for

Floats = npt.NDArray[np.float64]
_BINS = 10
_FLATTEST = 1e-6
"""Smallest slope, at a largest margin of 1. Margins of the wrong sign are not turned: the held-out F1 refuses such a model."""


class Calibration(NamedTuple):
    """Probability = 1 / (1 + exp(-(slope * margin + offset)))."""

    slope: float
    offset: float

    def probabilities(self, margins: Floats) -> npt.NDArray[np.float32]:
        """The probability of each margin, float32[documents]."""
        # Clipped: exp overflows beyond, and float32 cannot tell such probabilities from 0 or 1 anyway.
        values = np.clip(self.slope * margins + self.offset, -80, 80)
        return (1 / (1 + np.exp(-values))).astype(np.float32)


def calibrate(margins: Floats, positive: npt.NDArray[np.bool_]) -> Calibration:
    """Fit Platt's sigmoid (Platt 1999) with his targets, which keep it finite where the classes are separated.

    Probabilities then hold for text with the share of positives that these documents have.

    Args:
        margins: float64[documents].
        positive: Class of each, both present.
    """
    with needed_for("classifiers"):
        from sklearn.linear_model import LogisticRegression

    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    targets = np.where(positive, (num_positive + 1) / (num_positive + 2), 1 / (num_negative + 2))
    scale = float(np.abs(margins).max()) or 1.0
    # A document with target t is t of a positive and 1 - t of a negative one: scikit-learn takes weights, not targets.
    values = np.concatenate([margins, margins])[:, None] / scale
    classes = np.repeat([1, 0], len(margins))
    model = LogisticRegression(C=1e6, max_iter=1000)
    model.fit(values, classes, sample_weight=np.concatenate([targets, 1 - targets]))
    return Calibration(max(float(model.coef_[0, 0]), _FLATTEST) / scale, float(model.intercept_[0]))


def calibration_error(probabilities: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: |mean probability - share of positives|, averaged over ten bins of equal width."""
    bins = np.minimum((probabilities * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    gaps = np.bincount(bins, probabilities.astype(np.float64) - positive, minlength=_BINS)
    return float(np.abs(gaps).sum() / max(counts.sum(), 1))
