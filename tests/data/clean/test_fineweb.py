"""The sets `fineweb` and `education`, with hand-made cases: a text that a rule just keeps, and one that it drops."""

import pytest

from tests.data.clean.judged import Case, check_border

FINEWEB: list[Case] = [
    ("fineweb", "min_punctuated_line_share", 0.5, "One.\ntwo", "One.\ntwo\nthree,"),
    ("fineweb", "max_short_line_share", 0.5, "a" * 30 + "\n" + "b" * 31, "a\nb\n" + "c" * 31),
    # 2 of 8 characters without line breaks, then 2 of 7
    ("fineweb", "max_duplicate_line_character_share", 0.25, "aa\nbbbb\naa", "aa\nbbb\naa"),
    ("fineweb", "max_line_word_ratio", 0.5, "a b\nc d\n", "a b\nc\n"),
]

EDUCATION: list[Case] = [
    ("education", "min_lines", 3, "a\n\nb\nc", "a\n\n\nb"),
    ("education", "max_short_line_share", 0.5, "short\n" + "l" * 20, "short\nshort too\n" + "l" * 20),
    ("education", "max_repeated_line_share", 0.25, "a\nb\nc\na", "a\nb\na\na"),
    # the last of six 5-word sequences occurred before, then the last of five; case and punctuation do not hide it
    ("education", "max_repetition", 1 / 6, "a b c d e a b c d e", "a b c d a, B. c d a"),
]


@pytest.mark.parametrize("case", FINEWEB + EDUCATION, ids=str)
def test_each_rule_keeps_at_its_border_and_drops_beyond(case: Case) -> None:
    check_border(case)
