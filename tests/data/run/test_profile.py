"""Profile of a corpus: histograms and terms checked against hand-made text and a plain count."""

import math
from pathlib import Path

import pytest

from cpt_ray.data.run.profile import BYTE_EDGES, REPETITION_EDGES, SAMPLED_WORDS, _classes, rank_terms, sample_ngrams
from tests.data.conftest import sentence


def test_values_fall_into_their_class_and_the_last_ones_hold_what_lies_beyond() -> None:
    import numpy as np

    counts = _classes(np.array([1.0, 64.0, 127.0, 128.0, 1e12]), BYTE_EDGES)
    assert counts[:2] == [3, 1]
    assert counts[-1] == 1
    assert sum(counts) == 5
    assert _classes(np.array([0.0, 0.049, 0.05, 1.0]), REPETITION_EDGES)[:2] == [2, 1]


def test_ngrams_of_one_to_three_words_are_counted() -> None:
    words, counts = sample_ngrams(["a"], ["The cat, the CAT sat"], seed=0)
    assert words == 5
    assert counts == {
        "cat": 2, "the": 2, "the cat": 2, "cat sat": 1, "cat the": 1, "cat the cat": 1, "sat": 1, "the cat sat": 1,
        "the cat the": 1,
    }  # fmt: skip


def test_the_sample_is_bounded_and_does_not_depend_on_the_order_of_documents() -> None:
    ids = [f"d{number}" for number in range(40)]
    texts = [sentence(10_000, seed=name) for name in ids]
    words, counts = sample_ngrams(ids, texts, seed=1)
    assert SAMPLED_WORDS <= words < SAMPLED_WORDS + 10_000
    assert sample_ngrams(ids[::-1], texts[::-1], seed=1) == (words, counts)
    assert sample_ngrams(ids, texts, seed=2) != (words, counts)


def test_one_long_document_gives_at_most_a_tenth_of_the_sample() -> None:
    assert sample_ngrams(["long"], ["word " * SAMPLED_WORDS], seed=0)[0] == SAMPLED_WORDS // 10


def test_z_is_the_log_odds_ratio_of_monroe_and_others() -> None:
    (term,) = rank_terms({"law": 50}, {"law": 10}, 1_000, 2_000)
    prior = 500 * 60 / 3_000
    odds = math.log((50 + prior) / (1_500 - 60)) - math.log((10 + prior) / (2_500 - 20))
    assert prior == 10
    assert term.z == pytest.approx(odds / math.sqrt(1 / 60 + 1 / 20), abs=0.005)


def test_what_both_have_alike_or_the_background_has_more_is_no_term() -> None:
    assert rank_terms({"the": 100, "rare": 1}, {"the": 100}, 1_000, 1_000) == ()
    assert [t.text for t in rank_terms({"the": 50, "law": 40}, {"the": 100, "law": 2}, 1_000, 1_000)] == ["law"]


def test_a_phrase_stands_for_the_words_in_it() -> None:
    ngrams = {"licensed": 40, "work": 90, "licensed work": 40, "the licensed work": 40}
    assert [t.text for t in rank_terms(ngrams, {}, 1_000, 1_000)] == ["work", "the licensed work"]


def test_without_general_text_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    assert rank_terms({"law": 50}, {}, 1_000, 0) == ()
