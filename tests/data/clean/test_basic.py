"""The set `basic`, sizes and languages, with hand-made cases: a text that a rule just keeps, and one that it drops."""

import pytest

from cpt_ray.data.clean import reason_key
from tests.data.clean.judged import Case, check_border, config, judge

TEXT = "A sentence of ordinary words that says something."

BASIC: list[Case] = [
    ("basic", "max_repeated_line_share", 0.25, "a\nb\nc\na", "a\nb\na\na"),
    ("basic", "max_symbol_word_ratio", 0.5, "# one two", "# # # one"),
    ("basic", "max_symbol_word_ratio", 0.5, "one... two", "one... two… three..."),
    ("basic", "min_alphabetic_word_share", 0.5, "a1 22", "a1 22 33"),
    ("basic", "mean_word_length", (3.0, 5.0), "abc abcde", "ab ab"),
    ("basic", "mean_word_length", (3.0, 5.0), "abcde", "abcdef"),
]


@pytest.mark.parametrize("case", BASIC, ids=str)
def test_each_rule_keeps_at_its_border_and_drops_beyond(case: Case) -> None:
    check_border(case)


@pytest.mark.parametrize(("key", "kept", "dropped"), [("min_bytes", "four", "né"), ("max_bytes", "four", "fünf")])
def test_sizes_are_in_utf8_bytes(key: str, kept: str, dropped: str) -> None:
    assert judge(kept, config(**{key: 4})) is None
    assert judge(dropped, config(**{key: 4})) == key
    assert judge(dropped, config()) is None


def test_unknown_languages_are_kept_and_regions_ignored() -> None:
    settings = config(languages=("en",))
    assert judge(TEXT, settings, "de") == "language"
    assert judge(TEXT, settings, "en-GB") is None
    assert judge(TEXT, settings) is None
    assert reason_key("language") == "prepare.clean.languages"
