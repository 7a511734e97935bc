"""The set `c4`, with hand-made cases: a text that a rule just keeps, and one that it drops."""

import pytest

from tests.data.clean.judged import Case, check_border

C4: list[Case] = [
    ("c4", "terminal_punctuation", True, "It ends.", "It does not"),
    ("c4", "terminal_punctuation", True, 'He said "so"', "It trails off..."),
    ("c4", "min_line_words", 3, "Three words here", "Two words"),
    ("c4", "max_word_characters", 5, "abcde", "abcdef"),
    ("c4", "javascript", True, "Enable Java.", "Enable JavaScript."),
    ("c4", "policy", True, "Our policy.", "Our Privacy Policy."),
    ("c4", "lorem_ipsum", True, "Lorem, ipsum.", "Lorem ipsum dolor."),
    ("c4", "curly_bracket", True, "a (b)", "a {b}"),
    ("c4", "min_sentences", 2, "One here. Two there.", "Only one at 3.5 by Dr. No."),
]


@pytest.mark.parametrize("case", C4, ids=str)
def test_each_rule_keeps_at_its_border_and_drops_beyond(case: Case) -> None:
    check_border(case)
