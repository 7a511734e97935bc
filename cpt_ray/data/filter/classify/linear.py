"""A linear classifier, trained by stochastic gradient descent on batches that are read again in each epoch.

In: batches of features and classes, positives and negatives mixed in proportion. Out: weights float32[columns] and an
intercept. scikit-learn's `SGDClassifier` with logistic loss, averaged weights (Polyak and Juditsky 1992) and both classes of
equal total weight, so that a small class is learned as well as a large one. Memory: three vectors of weights and one batch.

Guarantee: the same batches in the same order give the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from cpt_ray.data.filter.classify.features import Columns
from cpt_ray.edges.packages import needed_for


class LabelledBatch(NamedTuple):
    """Features of some documents, [documents, columns], and whether each is positive, bool[documents]."""

    features: Any
    positive: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LinearModel:
    """Weights float32[columns] and intercept."""

    weights: npt.NDArray[np.float32]
    intercept: float

    def save(self, path: Path) -> None:
        """Write as `.npz`, without pickles."""
        with path.open("wb") as out:  # np.savez would append .npz to a path
            np.savez(out, weights=self.weights, intercept=np.float64(self.intercept))

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as found:
            return cls(found["weights"], float(found["intercept"]))


def as_matrix(columns: Columns, bits: int) -> scipy.sparse.csr_matrix:
    """The features of texts as rows of length 1, [texts, 2^bits]."""
    sizes = np.diff(columns.offsets)
    values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes).astype(np.float32)
    shape = (len(sizes), 1 << bits)
    return scipy.sparse.csr_matrix((values, columns.flat.astype(np.int32), columns.offsets), shape=shape)


def fit_linear(
    epoch: Callable[[int], Iterable[LabelledBatch]],
    *,
    num_positive: int,
    num_negative: int,
    epochs: int,
    regularization: float,
    seed: int,
) -> LinearModel:
    """Train a linear model.

    Args:
        epoch: Gives the batches of an epoch, by its number.
        num_positive: Positive documents in an epoch.
        num_negative: Negative documents in an epoch.
        epochs: Passes over the documents.
        regularization: Weight of half the squared norm of the weights against the sum of the losses of an epoch.
        seed: For scikit-learn's shuffle within a batch.
    """
    with needed_for("classifiers"):
        from sklearn.linear_model import SGDClassifier

    # Per example: with a fixed weight a few hundred examples fit noise, or a few hundred thousand are held back.
    alpha = regularization / (num_positive + num_negative)
    model = SGDClassifier(loss="log_loss", alpha=alpha, average=True, random_state=seed % (1 << 32))
    half = (num_positive + num_negative) / 2
    for number in range(epochs):
        for batch in epoch(number):
            weight = np.where(batch.positive, half / num_positive, half / num_negative)
            model.partial_fit(batch.features, batch.positive, classes=np.array([False, True]), sample_weight=weight)
    return LinearModel(model.coef_[0].astype(np.float32), float(model.intercept_[0]))
