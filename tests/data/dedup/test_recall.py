"""Near-duplicates against ground truth: a corpus with known clusters, and the exact similarity of every pair found."""

from collections.abc import Callable

import pytest

from benchmarks.data.dedup import CONFIG, Corpus, build_corpus, find_ours, precision, recall, recall_by_similarity
from cpt_ray.data.dedup.signatures import threshold


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build_corpus(500, 250)


@pytest.mark.accept(data=3)
def test_planted_near_duplicates_are_found_and_strangers_are_not(
    corpus: Corpus, record_property: Callable[[str, object], None]
) -> None:
    pairs, _ = find_ours(corpus.texts)
    assert min(corpus.similarity) < 0.65 < (threshold(CONFIG) or 0) < max(corpus.similarity)
    assert pairs <= set(corpus.planted)
    assert recall(corpus, pairs) > 0.85
    record_property("recall", f"{recall(corpus, pairs):.3f} of {len(corpus.planted)} planted pairs")
    record_property("precision", f"{precision(corpus, pairs):.3f}")
    sure = [counts for name, counts in recall_by_similarity(corpus, pairs).items() if float(name) >= 0.85]
    assert sum(found for found, _ in sure) == sum(planted for _, planted in sure) > 50


def test_without_the_comparison_precision_falls(corpus: Corpus) -> None:
    checked, unchecked = find_ours(corpus.texts)[0], find_ours(corpus.texts, compare=False)[0]
    assert checked < unchecked
    assert precision(corpus, checked) > 0.93 > precision(corpus, unchecked)
