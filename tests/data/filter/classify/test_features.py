"""Hashed features: as many as a plain count finds, the same whatever the neighbors, with the weights of scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer

from cpt_ray.config.sections.classifiers import FeaturesConfig
from cpt_ray.data.filter.classify.features import batches, hashed_columns, margins_of
from cpt_ray.data.filter.classify.linear import as_matrix
from cpt_ray.data.words import fold, words

WIDE = FeaturesConfig(bits=26)


def plain_features(text: str, config: FeaturesConfig) -> set[tuple[str, ...]]:
    """The reference: every word n-gram and character n-gram, in Python."""
    found, folded = words(text), fold(text)
    grams = {("w", *found[i : i + n]) for n in range(1, config.word_ngrams + 1) for i in range(len(found) - n + 1)}
    n = config.character_ngrams
    return grams | {("c", folded[i : i + n]) for i in range(len(folded) - n + 1) if n}


TEXTS = [
    "The court held that the court is a court.",
    "",
    "x",
    "\u00dcber Stra\u00dfe \u4e2d\u6587\u5b57\u7b26 caf\u00e9",
    "a b a b a b",
]


@pytest.mark.parametrize("config", [WIDE, FeaturesConfig(bits=26, character_ngrams=0), FeaturesConfig(bits=26, word_ngrams=3)])
def test_a_text_has_one_column_for_each_word_and_character_ngram(config):
    columns = hashed_columns(TEXTS, config)
    assert np.diff(columns.offsets).tolist() == [len(plain_features(text, config)) for text in TEXTS]


@settings(deadline=None)  # the first text with letters beyond ASCII builds tables
@given(st.lists(st.text(max_size=40), max_size=6))
def test_columns_depend_on_the_text_alone(texts):
    together = hashed_columns(texts, WIDE)
    for place, text in enumerate(texts):
        alone = hashed_columns([text], WIDE).flat
        np.testing.assert_array_equal(together.flat[together.offsets[place] : together.offsets[place + 1]], alone)
        assert np.all(np.diff(alone.astype(np.int64)) > 0)


def test_a_feature_counts_once_and_a_row_has_length_one_as_in_scikit_learn():
    texts = ["a court is a court is a court", "another text of the court"]
    ours = as_matrix(hashed_columns(texts, FeaturesConfig(word_ngrams=2, character_ngrams=0, bits=22)), 22)
    theirs = HashingVectorizer(
        ngram_range=(1, 2), binary=True, norm="l2", alternate_sign=False, n_features=1 << 22, token_pattern=r"\w+"
    ).transform(texts)
    np.testing.assert_allclose(np.sort(ours.data), np.sort(theirs.data), rtol=1e-6)
    # What two texts have in common does not depend on the hash.
    np.testing.assert_allclose((ours @ ours.T).toarray(), (theirs @ theirs.T).toarray(), rtol=1e-6)


def test_words_and_characters_that_read_alike_are_different_features():
    both = hashed_columns(["court"], FeaturesConfig(word_ngrams=1, character_ngrams=5, bits=26))
    assert len(both.flat) == 2


def test_margins_are_those_of_the_matrix_and_an_empty_text_has_the_intercept():
    config = FeaturesConfig(bits=12)
    columns = hashed_columns(TEXTS, config)
    weights = np.random.default_rng(0).normal(size=1 << 12).astype(np.float32)
    expected = as_matrix(columns, 12) @ weights + 0.5
    np.testing.assert_allclose(margins_of(columns, weights, 0.5), expected, rtol=1e-4, atol=1e-5)
    assert margins_of(columns, weights, 0.5)[1] == 0.5


def test_batches_hold_every_text_once_in_order():
    texts = [f"{number} " * 30_000 for number in range(20)]
    cut = list(batches(texts))
    assert len(cut) > 5
    assert [text for part in cut for text in part] == texts
    assert list(batches([])) == []
