import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.data.clean.normalize import normalize


def test_mojibake_is_repaired_and_quotes_are_left_alone() -> None:
    assert normalize("cafÃ© â€” “so”") == "café — “so”"
    assert normalize("plain\ncafÃ©\nplain") == "plain\ncafé\nplain"


def test_lines_are_trimmed_and_ended_by_newline() -> None:
    assert normalize("\r\na  \r\n\tb\t\rc\x0cd\u2028e\n\n") == "a\n\tb\nc\nd\ne"


def test_control_characters_go_and_tab_stays() -> None:
    assert normalize("a\x00b\tc\x1b[31md\x7f") == "ab\tcd"


def test_full_width_text_and_entities_stay() -> None:
    text = "\u4f60\u597d\uff0c\u4e16\u754c\uff01 &lt;b&gt;"  # with a full-width comma and exclamation mark
    assert normalize(text) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_the_result_is_nfc_without_control_characters(text: str) -> None:
    result = normalize(text)
    assert not [c for c in result if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    assert unicodedata.is_normalized("NFC", result)
    assert all(line == line.rstrip() for line in result.split("\n"))


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=200))
def test_clean_ascii_comes_back_as_it_went_in(text: str) -> None:
    assert normalize(text) == text
