"""A document as the rules see it."""

import pytest

from cpt_ray.data.clean.view import TextView, above, below, outside, repeated
from cpt_ray.records import Document


def view(text: str) -> TextView:
    return TextView(Document("d", text, "law"))


def test_bytes_are_utf8_and_lines_are_stripped_and_never_empty() -> None:
    seen = view("  Fünf \n\n \t\nwords here\n")
    assert seen.num_bytes == len("  F") + 2 + len("nf \n\n \t\nwords here\n")
    assert seen.lines == ["Fünf", "words here"]
    assert seen.words == ["Fünf", "words", "here"]


def test_tokens_part_punctuation_from_words() -> None:
    assert view("One, two.").tokens == ["One", ",", "two", "."]


def test_nothing_has_no_lines_and_no_words() -> None:
    assert (view("").lines, view("").words, view("").num_bytes) == ([], [], 0)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [([], (0, 0)), (["a", "b"], (0, 0)), (["ab", "c", "ab", "ab"], (2, 4)), (["", ""], (1, 0))],
    ids=["none", "no repeat", "two repeats of two characters", "empty pieces repeat without characters"],
)
def test_repeats_are_counted_after_the_first(pieces: list[str], expected: tuple[int, int]) -> None:
    assert repeated(pieces) == expected


def test_a_share_is_passed_only_beyond_its_border() -> None:
    assert [above(amount, 0.25, 8) for amount in (2, 3)] == [False, True]
    assert [below(amount, 0.25, 8) for amount in (1, 2)] == [True, False]
    assert [outside(value, (3.0, 5.0)) for value in (2.9, 3.0, 5.0, 5.1)] == [True, False, False, True]


def test_a_rule_that_is_off_never_drops() -> None:
    assert not above(9, None, 1)
    assert not below(0, None, 1)
    assert not outside(99, None)
