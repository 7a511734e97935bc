"""The `prepare.clean` section: no setting without effect, and thresholds that can be turned off."""

import pytest

from cpt_ray.config.load import parse_study
from cpt_ray.config.sections.clean import CleanConfig, TokenRulesConfig
from tests.config.spoiled import refusal, spoil

SETS = ("basic", "gopher_quality", "gopher_repetition", "c4", "fineweb", "education")
ONE_SETTING = {
    "basic": {"max_symbol_word_ratio": 0.2},
    "gopher_quality": {"min_words": 30},
    "gopher_repetition": {"max_top_ngram_share": {2: 0.3}},
    "c4": {"terminal_punctuation": False},
    "fineweb": {"max_short_line_share": None},
    "education": {"min_lines": 1},
}


@pytest.mark.parametrize("name", SETS)
def test_settings_of_a_rule_set_that_is_off_are_refused_and_on_are_read(tree, name):
    tree["prepare"] = {"clean": {"rules": [other for other in SETS if other != name][:1], name: ONE_SETTING[name]}}
    assert f"{name} has settings, but rules is [" in refusal(tree)
    assert f": add {name} to rules" in refusal(tree)
    clean = parse_study(spoil(tree, "prepare.clean.rules", [name]), place="study.yaml").prepare.clean
    ((key, value),) = ONE_SETTING[name].items()
    assert getattr(getattr(clean, name), key) == value


def test_the_defaults_of_a_set_that_is_off_are_no_settings(tree):
    written = {"rules": ["c4"], "basic": CleanConfig().basic.model_dump()}
    parse_study(spoil(tree, "prepare.clean", written), place="study.yaml")


def test_an_unknown_set_or_kind_of_secret_is_refused(tree):
    assert "prepare.clean.rules.0: Input should be 'basic'" in refusal(spoil(tree, "prepare.clean", {"rules": ["best"]}))
    assert "prepare.clean.redact.kinds.0: Input should be 'email'" in refusal(
        spoil(tree, "prepare.clean", {"redact": {"kinds": ["name"]}})
    )


def test_token_rules_are_off_by_default():
    assert set(TokenRulesConfig().model_dump().values()) == {None}
