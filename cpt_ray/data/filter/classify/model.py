"""A classifier as its settings say: how it is fitted, calibrated and tested, and how it scores texts.

Flow: examples in, `Fitted` out (`fit`); then texts in, probabilities out (`Classifier`). Memory: the model and one batch.

Guarantee: examples that calibrate or test a model are not among those it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from cpt_ray.config.sections.classifiers import ClassifierConfig
from cpt_ray.data.filter.classify.calibrate import Calibration
from cpt_ray.data.filter.classify.features import batches, hashed_columns, margins_of
from cpt_ray.data.filter.classify.linear import LabelledBatch, LinearModel, as_matrix, fit_linear
from cpt_ray.data.filter.classify.loaded import Floats, Scorer, load_encoder, load_scorer

Example: TypeAlias = tuple[str, bool]
"""Text, and whether it is positive."""
TEST_SHARE = 0.25
CALIBRATE_SHARE = 0.15
_BATCH_TEXTS = 256


def is_trained(config: ClassifierConfig) -> bool:
    """Whether the model is trained here; others are loaded."""
    return config.model in ("ngrams", "encoder")


class Parts(NamedTuple):
    """What the examples of a class are used for, by their share: test below the first border, calibrate below the second."""

    test: float
    calibrate: float

    def names(self, shares: Floats) -> npt.NDArray[np.str_]:
        """The part of each example."""
        return np.where(shares < self.test, "test", np.where(shares < self.calibrate, "calibrate", "train"))


def cut_parts(shares: Floats, *, trained: bool) -> Parts:
    """Decide which examples of a class test, calibrate and train.

    By rank, so that small classes have some of each, and by share, which the examples of a near-duplicate component have in
    common.

    Args:
        shares: A number in [0, 1) per example, from its component.
        trained: Whether the model is trained here; the examples of others only calibrate and test.
    """
    ordered = np.sort(shares)

    def border(part: float) -> float:
        place = round(part * len(ordered))
        return float(ordered[place]) if place < len(ordered) else 1.0

    return Parts(border(TEST_SHARE), border(TEST_SHARE + CALIBRATE_SHARE) if trained else 1.0)


def scorer_of(config: ClassifierConfig, weights: Path | None) -> Scorer:
    """Texts to margins.

    Args:
        config: The classifier.
        weights: Where the weights of a model that was trained here are.
    """
    if weights is None:
        return load_scorer(config)
    return _linear_scorer(config, LinearModel.load(weights))


def _linear_scorer(config: ClassifierConfig, model: LinearModel) -> Scorer:
    if config.model == "encoder":
        encode = load_encoder(str(config.path), config.name)
        return lambda texts: (encode(texts) @ model.weights).astype(np.float64) + model.intercept

    def score(texts: Sequence[str]) -> Floats:
        rows = [margins_of(hashed_columns(part, config.features), model.weights, model.intercept) for part in batches(texts)]
        return np.concatenate([np.empty(0), *rows])

    return score


def _features(config: ClassifierConfig) -> Callable[[Sequence[str]], Any]:
    if config.model == "encoder":
        return load_encoder(str(config.path), config.name)
    return lambda texts: as_matrix(hashed_columns(texts, config.features), config.features.bits)


def train(
    config: ClassifierConfig, epoch: Callable[[int], Iterable[Example]], *, num_positive: int, num_negative: int, seed: int
) -> LinearModel:
    """Train a classifier's linear model.

    Args:
        config: The classifier.
        epoch: Gives the training examples of an epoch, by its number.
        num_positive: Positive examples in an epoch.
        num_negative: Negative examples in an epoch.
        seed: Of the order within a batch.
    """
    features = _features(config)

    def prepared(number: int) -> Iterator[LabelledBatch]:
        for part in in_batches(epoch(number)):
            yield LabelledBatch(features([text for text, _ in part]), np.array([positive for _, positive in part]))

    counts = {"num_positive": num_positive, "num_negative": num_negative}
    return fit_linear(prepared, **counts, epochs=config.epochs, regularization=config.regularization, seed=seed)


def margins(score: Scorer, examples: Iterable[Example]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Margin and class of each example."""
    values, positive = [np.empty(0)], [np.empty(0, dtype=np.bool_)]
    for part in in_batches(examples):
        values.append(score([text for text, _ in part]))
        positive.append(np.array([is_positive for _, is_positive in part]))
    return np.concatenate(values), np.concatenate(positive)


def in_batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Cut examples into runs of `_BATCH_TEXTS`."""
    batch: list[Example] = []
    for example in examples:
        batch.append(example)
        if len(batch) == _BATCH_TEXTS:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class Classifier:
    """Texts to calibrated probabilities."""

    score: Scorer
    calibration: Calibration

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """The probability that each text belongs to the domain, float32[texts]."""
        if not texts:  # a batch of duplicates only; scikit-learn refuses one without documents
            return np.empty(0, dtype=np.float32)
        return self.calibration.probabilities(self.score(texts))
