"""Every threshold of every rule set, by hand: a text that it just keeps, and one that it drops."""

import pytest
from pydantic import ValidationError

from cpt_ray.config.sections.clean import CleanConfig
from cpt_ray.data.clean import RULE_SETS, Cleaned, clean, reason_key
from cpt_ray.records import Document
from tests.data.clean.judged import SETTINGS, cleaned, config, judge, thresholds

GOOD = "A sentence of ordinary words that says something.\nAnd another of the same kind, with more words in it."
PROSE = """The harbour was quiet that morning, and the fog had not yet lifted from the water.
Two boats lay at the quay; their crews were asleep, or had gone into town to look for breakfast.
Nobody saw the letter arrive. It came with an ordinary van, between a crate of lemons and a new radio.
Anna read it twice before she understood what her brother wanted her to do with the house.
She would have to sell, he wrote, because no bank in the country was going to wait any longer.
"We shall see," she said to the cat, and put the kettle on."""

# rule set, key, its setting, a text at the border, a text beyond it
BASIC = [
    ("basic", "max_repeated_line_share", 0.25, "a\nb\nc\na", "a\nb\na\na"),
    ("basic", "max_symbol_word_ratio", 0.5, "# one two", "# # # one"),
    ("basic", "max_symbol_word_ratio", 0.5, "one... two", "one... two… three..."),
    ("basic", "min_alphabetic_word_share", 0.5, "a1 22", "a1 22 33"),
    ("basic", "mean_word_length", (3.0, 5.0), "abc abcde", "ab ab"),
    ("basic", "mean_word_length", (3.0, 5.0), "abcde", "abcdef"),
]
GOPHER_QUALITY = [
    # punctuation marks are no words: three and three
    ("gopher_quality", "min_words", 3, "one, two, three.", "one, two ( . ) !"),
    ("gopher_quality", "max_words", 3, "one, two, three.", "one two three four"),
    # 3 + 5 over 2; the comma's length is left out
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
GOPHER_REPETITION = [
    # one of four, then one of three
    ("gopher_repetition", "max_duplicate_paragraph_share", 0.25, "a\n\nb\n\nc\n\na", "a\n\nb\n\n\na"),
    # 4 of 16 characters, then 4 of 14
    ("gopher_repetition", "max_duplicate_paragraph_character_share", 0.25, "aaaa\n\nbbbb\n\naaaa", "aaaa\n\nbb\n\naaaa"),
    ("gopher_repetition", "max_duplicate_line_share", 0.25, "a\nb\nc\na", "a\nb\n\na"),
    # 3 of 12 characters, then 3 of 11
    ("gopher_repetition", "max_duplicate_line_character_share", 0.25, "aaa\nbbbb\naaa", "aaa\nbbb\naaa"),
    # "a b" twice: 6 of 12 characters, then 6 of 11
    ("gopher_repetition", "max_top_ngram_share", {2: 0.5}, "a b c a b d ", "a b c a b d"),
    # the second "a b" has 2 of 8 characters, then of 7; blanks count for the document only
    ("gopher_repetition", "max_duplicate_ngram_share", {2: 0.25}, "a b a b ", "a b a b"),
    # "a a" in "a a a a": of three copies after the first, those at 1 and 3 would overlap the one counted at 1
    ("gopher_repetition", "max_duplicate_ngram_share", {2: 0.3}, "a a a a", "a a a a a"),
]
C4 = [
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
FINEWEB = [
    ("fineweb", "min_punctuated_line_share", 0.5, "One.\ntwo", "One.\ntwo\nthree,"),
    ("fineweb", "max_short_line_share", 0.5, "a" * 30 + "\n" + "b" * 31, "a\nb\n" + "c" * 31),
    # 2 of 8 characters without line breaks, then 2 of 7
    ("fineweb", "max_duplicate_line_character_share", 0.25, "aa\nbbbb\naa", "aa\nbbb\naa"),
    ("fineweb", "max_line_word_ratio", 0.5, "a b\nc d\n", "a b\nc\n"),
]
EDUCATION = [
    ("education", "min_lines", 3, "a\n\nb\nc", "a\n\n\nb"),
    ("education", "max_short_line_share", 0.5, "short\n" + "l" * 20, "short\nshort too\n" + "l" * 20),
    ("education", "max_repeated_line_share", 0.25, "a\nb\nc\na", "a\nb\na\na"),
    # of six 5-word sequences the last stood there before, then of five; case and marks do not hide it
    ("education", "max_repetition", 1 / 6, "a b c d e a b c d e", "a b c d a, B. c d a"),
]
ALL = BASIC + GOPHER_QUALITY + GOPHER_REPETITION + C4 + FINEWEB + EDUCATION


@pytest.mark.parametrize(("name", "key", "setting", "kept", "dropped"), ALL)
def test_each_rule_keeps_at_its_border_and_drops_beyond(name: str, key: str, setting: object, kept: str, dropped: str) -> None:
    settings = config(name, **{key: setting})
    assert judge(kept, settings) is None
    reason = judge(dropped, settings)
    if name == "c4" and key in ("terminal_punctuation", "min_line_words", "max_word_characters", "javascript", "policy"):
        assert reason == "empty"  # the line was taken out, and it was the only one
    else:
        size = f".{next(iter(setting))}" if isinstance(setting, dict) else ""
        assert reason == f"{name}.{key}{size}"
        assert reason_key(reason) == f"prepare.clean.{name}.{key}{size}"
    assert judge(dropped, config(name)) is None


def test_no_threshold_is_without_a_case() -> None:
    cases = {(name, key) for name, key, *_ in ALL}
    wanted = {(name, key) for name in RULE_SETS for key in thresholds(name)}
    assert wanted - cases == {("c4", "citations")}  # it edits and never drops; below
    assert {key for name in RULE_SETS for key in CleanConfig.model_fields[name].default.model_dump()} >= SETTINGS


@pytest.mark.parametrize(("key", "kept", "dropped"), [("min_bytes", "four", "né"), ("max_bytes", "four", "fünf")])
def test_sizes_are_in_utf8_bytes(key: str, kept: str, dropped: str) -> None:
    assert judge(kept, config(**{key: 4})) is None
    assert judge(dropped, config(**{key: 4})) == key
    assert judge(dropped, config()) is None


def test_unknown_languages_are_kept_and_regions_ignored() -> None:
    settings = config(languages=("en",))
    assert judge(GOOD, settings, "de") == "language"
    assert judge(GOOD, settings, "en-GB") is None
    assert judge(GOOD, settings) is None
    assert reason_key("language") == "prepare.clean.languages"


def test_defaults_keep_ordinary_text_and_leave_it_alone() -> None:
    document = Document("d", GOOD * 3, "law", "en")
    assert clean(document, CleanConfig()) == Cleaned(document, {})


def test_the_published_sets_keep_ordinary_prose() -> None:
    published = ("gopher_quality", "gopher_repetition", "c4", "fineweb", "education")
    assert cleaned(PROSE, CleanConfig(rules=published)) == PROSE


def test_a_document_of_control_characters_is_empty() -> None:
    assert judge("\x00\x01 \x02", CleanConfig()) == "empty"
    assert reason_key("empty") is None


def test_normalization_can_be_off() -> None:
    assert cleaned("a \r\n", config()) == "a \r\n"
    assert cleaned("a \r\n", config(normalize=True)) == "a"


def test_sets_are_asked_in_the_order_that_they_are_listed_in() -> None:
    text = "# # # # # # #"
    both = {"basic": {"min_alphabetic_word_share": None, "mean_word_length": None}, "min_bytes": None}
    first = CleanConfig.model_validate({"rules": ["basic", "gopher_quality"], **both})
    second = CleanConfig.model_validate({"rules": ["gopher_quality", "basic"], **both})
    assert judge(text, first) == "basic.max_symbol_word_ratio"
    assert judge(text, second) == "gopher_quality.min_words"


def test_what_c4_takes_out_is_gone_for_the_sets_after_it() -> None:
    text = "menu\nThis is a sentence that stays.[1]\nhome"
    lines = {"terminal_punctuation": True, "citations": True, "min_sentences": None}
    assert cleaned(text, config("c4", **lines)) == "This is a sentence that stays."
    rules = {"c4": lines, "education": {"min_lines": 2, "max_short_line_share": None}, "min_bytes": None}
    assert judge(text, CleanConfig.model_validate({"rules": ["c4", "education"], **rules})) == "education.min_lines"
    assert judge(text, CleanConfig.model_validate({"rules": ["education", "c4"], **rules})) is None


def test_settings_of_a_set_that_is_off_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"c4 has settings, but rules is \[basic\]: add c4 to rules"):
        CleanConfig.model_validate({"c4": {"min_sentences": 3}})
    CleanConfig.model_validate({"c4": {"min_sentences": 5}})  # what it is anyway: a dumped study reads back
