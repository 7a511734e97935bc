import pytest

from cpt_ray.data.clean.repetition import repetition


def test_the_share_is_of_sequences_that_stood_there_before() -> None:
    texts = ["a b c d e a b c d e", "a b c d", "", "one two three four five six", "A, b! c d e? -- a b c d e."]
    assert repetition(texts).tolist() == pytest.approx([1 / 6, 0, 0, 0, 1 / 6])


def test_a_document_does_not_see_another() -> None:
    assert repetition(["a b c d e"] * 200).tolist() == [0] * 200


def test_one_word_over_and_over_is_nearly_all_repetition() -> None:
    assert repetition(["so " * 1004])[0] == pytest.approx(0.999)
