"""Precision, recall, F1 and AUC of a classifier on documents it was not trained on, with intervals that hold for few errors.

In: probabilities and classes. Out: `ClassifierMeasures`. A bootstrap says "1 to 1" where nothing was confused, however few
documents there were; these are score intervals, which do not: Wilson (1927) for precision and recall; for F1 = 2J / (1 + J)
that of J = TP / (TP + FP + FN), a proportion; Newcombe (2006, method 5) for the AUC. Memory: one number per document.

Guarantee: an interval contains its value, and has width above 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from cpt_ray.edges.packages import needed_for
from cpt_ray.records import ClassifierMeasures, Interval, Measured

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
_HALVINGS = 60

Probabilities = npt.NDArray[np.float32]
Classes = npt.NDArray[np.bool_]


def measure(probabilities: Probabilities, positive: Classes, threshold: float) -> ClassifierMeasures:
    """Precision, recall and F1 of calling documents positive from a threshold on.

    Args:
        probabilities: float32[documents].
        positive: Class of each.
        threshold: Documents with at least this probability are called positive.
    """
    called = probabilities >= np.float32(threshold)
    hits, false, missed = (int(np.sum(which)) for which in (called & positive, called & ~positive, ~called & positive))
    union = hits + false + missed
    low, high = wilson(hits, union)
    jaccard = hits / union if union else 0.0
    return ClassifierMeasures(
        threshold=threshold,
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        false_positives=false,
        missed=missed,
        precision=_proportion(hits, hits + false),
        recall=_proportion(hits, hits + missed),
        f1=Measured(value=_f1(jaccard), interval=_interval(_f1(low), _f1(high), "Wilson, of F1 / (2 - F1)")),
    )


def measure_auc(probabilities: Probabilities, positive: Classes) -> Measured:
    """Area under the ROC curve: how often a positive document scores above a negative one."""
    with needed_for("classifiers"):
        from sklearn.metrics import roc_auc_score

    value = float(roc_auc_score(positive, probabilities))
    low, high = newcombe(value, int(positive.sum()), int((~positive).sum()))
    return Measured(value=value, interval=_interval(low, high, "Newcombe, method 5"))


def in_source(measured: ClassifierMeasures, called: float) -> tuple[Measured, Measured]:
    """The share of positives in unlabeled text, and the precision there, from what was called positive.

    Adjusted count (Forman 2008): of `called`, recall times the share are hits, the false positive rate times the rest is not.
    The limits pair the limits of recall and of the false positive rate, so they are wide.

    Args:
        measured: What the classifier gets right on held-out examples.
        called: Share of the text's documents that were called positive at the same threshold.

    Returns:
        Share, precision.
    """
    recall, false = measured.recall, _proportion(measured.false_positives, measured.negatives)
    corners = [
        _adjusted(called, *rates)
        for rates in (
            (recall.value, false.value),
            (recall.interval.high, false.interval.high),
            (recall.interval.low, false.interval.low),
        )
    ]
    kind = "adjusted count, with Wilson's limits of recall and false positive rate"
    shares, precisions = zip(*corners, strict=True)
    return (
        Measured(value=shares[0], interval=_interval(min(shares), max(shares), kind)),
        Measured(value=precisions[0], interval=_interval(min(precisions), max(precisions), kind)),
    )


def f1_of_chance(positives: int, negatives: int) -> float:
    """The best F1 without looking at a document: that of calling everything positive."""
    share = positives / (positives + negatives)
    return _f1(share)


def wilson(hits: int, number: int) -> tuple[float, float]:
    """Wilson's interval (1927) of a proportion; everything if there is no document."""
    if not number:
        return 0.0, 1.0
    share, spread = hits / number, _Z * _Z / number
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / number + spread / (4 * number)) / (1 + spread)
    return min(max(0.0, middle - half), share), max(min(1.0, middle + half), share)


def newcombe(value: float, positives: int, negatives: int) -> tuple[float, float]:
    """Newcombe's interval (2006, method 5) of an AUC: the areas from which `value` is z standard errors away."""

    def outside(area: float) -> bool:
        pairs, more = positives * negatives, (positives + negatives) / 2 - 1
        variance = area * (1 - area) * (1 + more * ((1 - area) / (2 - area) + area / (1 + area))) / pairs
        return abs(area - value) > _Z * math.sqrt(variance)

    return _border(outside, 0.0, value), _border(outside, 1.0, value)


def _border(outside: Callable[[float], bool], far: float, near: float) -> float:
    """The last point between `near` and `far` that is not outside, by bisection."""
    for _ in range(_HALVINGS):
        middle = (far + near) / 2
        far, near = (middle, near) if outside(middle) else (far, middle)
    return near


def _f1(jaccard: float) -> float:
    return 2 * jaccard / (1 + jaccard)


def _adjusted(called: float, recall: float, false_rate: float) -> tuple[float, float]:
    """Share of positives, and precision."""
    if not called or recall <= false_rate:
        return 0.0, 0.0
    share = min(max((called - false_rate) / (recall - false_rate), 0.0), 1.0)
    return share, min(share * recall / called, 1.0)


def _proportion(hits: int, number: int) -> Measured:
    low, high = wilson(hits, number)
    return Measured(value=hits / number if number else 0.0, interval=_interval(low, high, "Wilson"))


def _interval(low: float, high: float, kind: str) -> Interval:
    return Interval(low=low, high=high, confidence=CONFIDENCE, kind=kind)
