import random
import subprocess
import sys

import numpy as np
import pytest

from cpt_ray.data import words as module
from cpt_ray.data.words import (
    fold,
    hash_ngrams,
    hash_ngrams_batch,
    hash_words,
    hash_words_batch,
    seeded_share,
    word_spans,
    words,
)


def test_case_punctuation_and_composition_do_not_matter() -> None:
    assert words("Don't STOP, Café!") == words("don t\nstop - cafe\u0301") == ["don", "t", "stop", "café"]
    assert hash_words("Don't STOP, Café!").tolist() == hash_words("don t\nstop - cafe\u0301").tolist()


def test_spans_point_at_the_words_of_the_text_itself() -> None:
    text = "Straße, ein CAFÉ und 42 ﬁsche"
    spans = word_spans(text)
    assert spans is not None
    assert [fold(text[start:end]) for start, end in spans] == words(text)
    assert "Straße" in [text[start:end] for start, end in spans]


def test_a_text_whose_folding_moves_characters_has_no_spans() -> None:
    assert word_spans("cafe\u0301 au lait") is None


@pytest.mark.parametrize("alphabet", ["abc XY_9 ,.\n-", "abc ÉÀß\u2019\u201c\u0663\u0301 \U0001d49c_,.\n"])
def test_hashes_are_equal_exactly_where_words_are(alphabet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(alphabet, k=draw.choice([0, 1, 7, 80]))) for _ in range(400)]
    texts += ["", "a" * 500, "b " * 500, ""]
    together, offsets = hash_words_batch(texts)
    monkeypatch.setattr(module, "_WINDOW", 64)  # many windows, and words longer than one
    windowed, _ = hash_words_batch(texts)
    assert np.array_equal(together, windowed)
    hash_of: dict[str, int] = {}
    for text, start, end in zip(texts, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        assert end - start == len(words(text))
        for word, value in zip(words(text), together[start:end].tolist(), strict=True):
            assert hash_of.setdefault(word, value) == value
    assert len(set(hash_of.values())) == len(hash_of) > 100


def test_no_texts_have_no_words() -> None:
    hashes, offsets = hash_words_batch([])
    assert (len(hashes), offsets.tolist()) == (0, [0])


def test_an_ngram_hash_depends_on_order_length_and_words_alone() -> None:
    base = hash_words("a b c a b")
    grams = hash_ngrams(base, 2)
    assert len(grams) == 4
    assert grams[0] == grams[3]
    assert len(np.unique(grams)) == 3
    assert hash_ngrams(base, 1)[0] not in grams
    assert len(hash_ngrams(base, 6)) == 0


def test_no_ngram_of_a_batch_reaches_into_the_next_text() -> None:
    texts = ["a b c d", "", "e f", "g h i", "j"]
    hashes, offsets = hash_ngrams_batch(*hash_words_batch(texts), 3)
    assert offsets.tolist() == [0, 2, 2, 2, 3, 3]
    assert hashes.tolist() == [*hash_ngrams(hash_words("a b c d"), 3).tolist(), *hash_ngrams(hash_words("g h i"), 3).tolist()]


def test_hashes_are_the_same_in_another_process() -> None:
    code = "from cpt_ray.data.words import *; print(hash_words('law')[0], seeded_share('a', 1))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == [str(hash_words("law")[0]), str(seeded_share("a", 1))]
