"""The sets `gopher_quality` and `gopher_repetition`, with hand-made cases: a text that a rule just keeps, one that it drops."""

import pytest

from tests.data.clean.judged import Case, check_border

GOPHER_QUALITY: list[Case] = [
    # punctuation marks are not words: the kept texts have three
    ("gopher_quality", "min_words", 3, "one, two, three.", "one, two ( . ) !"),
    ("gopher_quality", "max_words", 3, "one, two, three.", "one two three four"),
    # (3 + 5) / 2; the comma is excluded
    ("gopher_quality", "mean_word_length", (3.0, 4.0), "abc, abcde", "abcd, abcde"),
    ("gopher_quality", "mean_word_length", (3.0, 4.0), "abc", "ab, abc"),
    # one hash, five tokens; then one hash, four tokens
    ("gopher_quality", "max_symbol_word_ratio", 0.2, "# a b c d", "# a b c"),
    ("gopher_quality", "max_symbol_word_ratio", 0.2, "a b c d …", "a b c ..."),
    ("gopher_quality", "max_bullet_line_share", 0.5, "- a\nb", "- a\n • b\nc"),
    ("gopher_quality", "max_ellipsis_line_share", 0.5, "a...\nb", "a...\nb… \nc"),
    # tokens are one, two, comma, 3: two of four; then one of three
    ("gopher_quality", "min_alphabetic_word_share", 0.5, "one two, 3", "one, 3"),
    ("gopher_quality", "min_stop_words", 2, "the end of it", "the end, the The"),
]

GOPHER_REPETITION: list[Case] = [
    # one of four, then one of three
    ("gopher_repetition", "max_duplicate_paragraph_share", 0.25, "a\n\nb\n\nc\n\na", "a\n\nb\n\n\na"),
    # 4 of 16 characters, then 4 of 14
    ("gopher_repetition", "max_duplicate_paragraph_character_share", 0.25, "aaaa\n\nbbbb\n\naaaa", "aaaa\n\nbb\n\naaaa"),
    ("gopher_repetition", "max_duplicate_line_share", 0.25, "a\nb\nc\na", "a\nb\n\na"),
    # 3 of 12 characters, then 3 of 11
    ("gopher_repetition", "max_duplicate_line_character_share", 0.25, "aaa\nbbbb\naaa", "aaa\nbbb\naaa"),
    # "a b" twice: 6 of 12 characters, then 6 of 11
    ("gopher_repetition", "max_top_ngram_share", {2: 0.5}, "a b c a b d ", "a b c a b d"),
    # the second "a b" has 2 of 8 characters, then of 7; spaces count for the document only
    ("gopher_repetition", "max_duplicate_ngram_share", {2: 0.25}, "a b a b ", "a b a b"),
    # "a a" in "a a a a": of three copies after the first, those at 1 and 3 would overlap the one counted at 1
    ("gopher_repetition", "max_duplicate_ngram_share", {2: 0.3}, "a a a a", "a a a a a"),
]


@pytest.mark.parametrize("case", GOPHER_QUALITY + GOPHER_REPETITION, ids=str)
def test_each_rule_keeps_at_its_border_and_drops_beyond(case: Case) -> None:
    check_border(case)
