"""The rule sets together: every threshold is tested, defaults are lenient, and sets are applied in order."""

import pytest
from pydantic import ValidationError

from cpt_ray.config.sections.clean import CleanConfig
from cpt_ray.data.clean import RULE_SETS, Cleaned, clean, reason_key
from cpt_ray.records import Document
from tests.data.clean.judged import SETTINGS, cleaned, config, judge, thresholds
from tests.data.clean.test_basic import BASIC
from tests.data.clean.test_c4 import C4
from tests.data.clean.test_fineweb import EDUCATION, FINEWEB
from tests.data.clean.test_gopher import GOPHER_QUALITY, GOPHER_REPETITION

GOOD = "A sentence of ordinary words that says something.\nAnd another of the same kind, with more words in it."
PROSE = """The harbour was quiet that morning, and the fog had not yet lifted from the water.
Two boats lay at the quay; their crews were asleep, or had gone into town to look for breakfast.
Nobody saw the letter arrive. It came with an ordinary van, between a crate of lemons and a new radio.
Anna read it twice before she understood what her brother wanted her to do with the house.
She would have to sell, he wrote, because no bank in the country was going to wait any longer.
"We shall see," she said to the cat, and put the kettle on."""

ALL = [*BASIC, *GOPHER_QUALITY, *GOPHER_REPETITION, *C4, *FINEWEB, *EDUCATION]


def test_no_threshold_is_without_a_case() -> None:
    cases = {(name, key) for name, key, *_ in ALL}
    wanted = {(name, key) for name in RULE_SETS for key in thresholds(name)}
    assert wanted - cases == {("c4", "citations")}  # it edits and never drops; tested below
    assert {key for name in RULE_SETS for key in CleanConfig.model_fields[name].default.model_dump()} >= SETTINGS


def test_defaults_keep_ordinary_text_and_leave_it_alone() -> None:
    document = Document("d", GOOD * 3, "law", "en")
    assert clean(document, CleanConfig()) == Cleaned(document, {}, {})


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
    CleanConfig.model_validate({"c4": {"min_sentences": 5}})  # the default value: a dumped study can be loaded again
