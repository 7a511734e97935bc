import subprocess
import sys

import numpy as np

from cpt_ray.data.words import fold, hash_ngrams, hash_words, seeded_share, word_spans, words


def test_case_punctuation_and_composition_do_not_matter() -> None:
    assert words("Don't STOP, Café!") == words("don t\nstop - cafe\u0301") == ["don", "t", "stop", "café"]


def test_spans_point_at_the_words() -> None:
    text = "Straße, İstanbul 42"
    assert [fold(text)[start:end] for start, end in word_spans(text)] == words(text)


def test_an_ngram_hash_depends_on_order_length_and_words_alone() -> None:
    base = hash_words(["a", "b", "c", "a", "b"])
    grams = hash_ngrams(base, 2)
    assert len(grams) == 4
    assert grams[0] == grams[3]
    assert len(np.unique(grams)) == 3
    assert hash_ngrams(base, 1)[0] not in grams
    assert len(hash_ngrams(base, 6)) == 0


def test_hashes_are_the_same_in_another_process() -> None:
    code = "from cpt_ray.data.words import *; print(hash_words(['law'])[0], seeded_share('a', 1))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == [str(hash_words(["law"])[0]), str(seeded_share("a", 1))]
