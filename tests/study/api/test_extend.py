"""Which budgets a study may be given, and the one line of its file that changes."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.errors import ConfigError
from cpt_ray.study.api.extend import exact_count, more_budgets, write_budgets


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("1k", "--budgets 1k is 1k tokens, below the largest budget, 4k\n  fix: give more than that, e.g. --budgets \\+4k"),
        ("4000", "--budgets 4000: the study has the budget 4k\n  fix: give more than 4k"),
        ("2k", "--budgets 2k: the study has the budget 2k"),
        ("lots", "--budgets lots: expected a quantity such as 400M, saw 'lots'\n  fix: e.g. --budgets \\+400M"),
        ("+0", "--budgets \\+0: the study has the budget 4k"),
    ],
)
def test_a_budget_that_is_no_larger_is_refused_with_one_that_is(tiny, asked, said):
    with pytest.raises(ConfigError, match=said):
        more_budgets(load_study(tiny.config), asked)


def test_budgets_in_flops_and_budgets_of_axes_are_changed_where_they_are(tiny):
    flops = load_study(tiny.config, ("train.budgets=null", "train.budgets_flops=[1e9,2e9]"))
    with pytest.raises(ConfigError, match=r"in FLOPs .*\n  fix: add the larger one to train.budgets_flops"):
        more_budgets(flops, "+1k")
    swept = load_study(tiny.config, ("axes={size: {key: train.budgets, values: {a: [2000], b: [4000]}}}",))
    with pytest.raises(ConfigError, match=r"axes\.size sets the budgets"):
        more_budgets(swept, "+1k")


def test_more_budgets_are_read_in_either_form(tiny):
    config = load_study(tiny.config)
    assert more_budgets(config, "+4k") == (2000, 4000, 8000)
    assert more_budgets(config, "8k, +1k") == (2000, 4000, 8000, 9000)
    assert [exact_count(one) for one in (400_000_000, 2001, 24_000, 10**9)] == ["400M", "2001", "24k", "1B"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("budgets: [2k, 4k]  # small", "budgets: [2k, 4k, 8k]  # small"),
        ("budgets:\n    - 2000  # first\n    - 4000  # last", "budgets:\n    - 2000  # first\n    - 4000  # last\n    - 8k"),
    ],
)
def test_one_line_of_the_study_file_changes_and_its_comments_stay(tiny, before, after):
    text = "# mine\n" + tiny.config.read_text().replace("budgets:\n  - 2000\n  - 4000", before)
    tiny.config.write_text(text)
    assert write_budgets(tiny.config, (2000, 4000, 8000), ())
    assert tiny.config.read_text() == text.replace(before, after)
    assert load_study(tiny.config).train.budgets == (2000, 4000, 8000)
    assert [path.name for path in tiny.config.parent.glob(".*")] == []


@pytest.mark.parametrize("shape", ["override", "alias", "other budgets"])
def test_a_file_that_cannot_be_changed_safely_is_left_alone(tiny, shape):
    text = tiny.config.read_text()
    if shape == "alias":
        text = text.replace("budgets:\n  - 2000\n  - 4000", "budgets: &tokens [2000, 4000]\n  trajectory_tokens: *tokens")
        tiny.config.write_text(text)
    overrides = ("train.budgets=[2000,4000]",) if shape == "override" else ()
    wanted = (3000, 4000, 8000) if shape == "other budgets" else (2000, 4000, 8000)
    assert not write_budgets(tiny.config, wanted, overrides)
    assert tiny.config.read_text() == text
