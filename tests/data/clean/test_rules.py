import pytest

from cpt_ray.config.prepare import CleanConfig
from cpt_ray.data.clean import REASON_KEYS, RULES, clean
from cpt_ray.records import Document, Dropped

OFF: dict[str, object] = dict.fromkeys(RULES)
GOOD = "A sentence of ordinary words that says something.\nAnd another of the same kind, with more words in it."


def verdict(text: str, language: str | None = None, **rules: object) -> str | None:
    result = clean(Document("d", text, "law", language), CleanConfig.model_validate({**OFF, **rules}))
    return result.reason if isinstance(result, Dropped) else None


@pytest.mark.parametrize(
    ("rule", "setting", "kept", "dropped", "reason"),
    [
        ("min_bytes", 4, "four", "né", "too_short"),
        ("max_bytes", 4, "four", "fünf", "too_long"),
        ("min_lines", 2, "a\n\nb", "a\n\n", "few_lines"),
        ("max_short_line_share", 0.5, "short\n" + "l" * 20, "short\nshort too\n" + "l" * 20, "short_lines"),
        ("max_repeated_line_share", 0.25, "a\nb\nc\na", "a\nb\na\na", "repeated_lines"),
        ("max_symbol_word_ratio", 0.5, "# one two", "# # # one", "symbols"),
        ("max_symbol_word_ratio", 0.5, "one... two", "one... two… three...", "symbols"),
        ("min_alphabetic_word_share", 0.5, "a1 22", "a1 22 33", "few_letters"),
        ("mean_word_length", (3.0, 5.0), "abc abcde", "ab ab", "word_length"),
        ("mean_word_length", (3.0, 5.0), "abcde", "abcdef", "word_length"),
    ],
)
def test_each_rule_keeps_at_its_border_and_drops_beyond(
    rule: str, setting: object, kept: str, dropped: str, reason: str
) -> None:
    assert verdict(kept, **{rule: setting}) is None
    assert verdict(dropped, **{rule: setting}) == reason
    assert verdict(dropped) is None
    assert REASON_KEYS[reason] == rule


def test_unknown_languages_are_kept_and_regions_ignored() -> None:
    assert verdict(GOOD, "de", languages=("en",)) == "language"
    assert verdict(GOOD, "en-GB", languages=("en",)) is None
    assert verdict(GOOD, None, languages=("en",)) is None


def test_defaults_keep_ordinary_text_and_leave_it_alone() -> None:
    document = Document("d", GOOD * 3, "law", "en")
    assert clean(document, CleanConfig()) == document


def test_a_document_of_control_characters_is_empty() -> None:
    assert verdict("\x00\x01 \x02") == "empty"


def test_normalisation_can_be_off() -> None:
    document = Document("d", "a \r\n", "law")
    assert clean(document, CleanConfig.model_validate({**OFF, "normalise": False})) == document


def test_every_threshold_of_the_section_has_a_rule() -> None:
    assert set(RULES) == set(CleanConfig.model_fields) - {"normalise"}
    assert set(REASON_KEYS.values()) == set(RULES)
