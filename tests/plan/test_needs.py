"""The tokens each budget of an arm needs from its sources, computed by hand, and the largest budget that fits."""

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.plan.checks import check_epochs
from cpt_ray.plan.needs import ASSUMED_FILL_SHARE, ArmMixtures, Supply, largest_budget, tokens_per_row
from tests.plan.planned import SCHEDULE, make_plan, make_study


def test_needs_follow_the_mix_and_the_budgets_of_each_arm():
    plan = make_plan(make_study(), {"law": 6000, "news": 4000})
    rows = [(need.arm, need.budget_tokens, need.source, need.needed_tokens, need.epochs) for need in plan.needs]
    assert rows == [
        ("legal", 1000, "law", 750, 0.125),
        ("legal", 1000, "news", 250, 0.0625),
        ("legal", 4000, "law", 3000, 0.5),
        ("legal", 4000, "news", 1000, 0.25),
        ("control", 4000, "news", 4000, 1.0),
    ]
    check_epochs(plan)


def test_counted_rows_turn_a_mix_of_rows_into_tokens():
    # law rows have 90 tokens, news rows 30: the mix 3 to 1 in rows is 9 to 1 in tokens, 75 tokens per row.
    plan = make_plan(make_study(), {"law": 9000, "news": 3000}, {"law": 100, "news": 100})
    need = {(n.arm, n.source, n.budget_tokens): n.needed_tokens for n in plan.needs}
    assert need["legal", "law", 1000] == 900
    assert need["legal", "news", 1000] == 100
    assert plan.tokens_per_step["legal"] == pytest.approx(150)
    assert plan.fill_share["legal"] == pytest.approx(0.75)
    assert plan.fill_measured


def test_needs_follow_the_segments_and_the_cooldown_of_each_budget():
    plan = make_plan(make_study(arm=SCHEDULE), {"law": 6000, "news": 4000})
    # Budget 1000: 500 tokens of 3 to 1, 250 of news, 250 of law. Budget 4000: 500, 2500 and 1000.
    need = {(n.budget_tokens, n.source): (n.needed_tokens, n.weight) for n in plan.needs if n.arm == "legal"}
    assert need == {
        (1000, "law"): (625, pytest.approx(0.625)),
        (1000, "news"): (375, pytest.approx(0.375)),
        (4000, "law"): (1375, pytest.approx(1375 / 4000)),
        (4000, "news"): (2625, pytest.approx(2625 / 4000)),
    }
    assert [(m.budget_tokens, m.from_tokens, m.weights) for m in plan.mixes if m.arm == "legal"] == [
        (1000, 0, {"law": 0.75, "news": 0.25}),
        (1000, 500, {"news": 1.0}),
        (1000, 750, {"law": 1.0}),
        (4000, 0, {"law": 0.75, "news": 0.25}),
        (4000, 500, {"news": 1.0}),
        (4000, 3000, {"law": 1.0}),
    ]


def test_the_largest_budget_of_a_schedule_fits_and_one_more_does_not():
    available = {"law": 6000, "news": 2000}
    plan = make_plan(make_study(arm=SCHEDULE), available)
    with pytest.raises(ConfigError, match=r"source news .*: 1\.31 epochs, and arms\.legal\.max_epochs is 1"):
        check_epochs(plan)
    largest = plan.largest_budget["legal"]
    needs = {budget: make_plan(make_study((500, budget), arm=SCHEDULE), available).needs for budget in (largest, largest + 3)}
    fits = {
        budget: all(n.needed_tokens <= 2000 for n in of if n.source == "news" and n.arm == "legal")
        for budget, of in needs.items()
    }
    assert fits == {largest: True, largest + 3: False}


def test_tokens_per_row_are_assumed_until_rows_are_counted():
    sources = ["law", "news"]
    assumed = dict.fromkeys(sources, ASSUMED_FILL_SHARE * 100)
    assert tokens_per_row(sources, 100, available=None, rows=None) == assumed
    assert tokens_per_row(sources, 100, available={"law": 900}, rows=None) == assumed
    counted = tokens_per_row(sources, 100, available={"law": 900}, rows={"law": 10, "news": 0})
    assert counted == {"law": 90, "news": assumed["news"]}


def test_the_largest_budget_of_one_source_is_its_tokens_times_the_epochs():
    arm = make_study().arms["control"].model_copy(update={"max_epochs": 2.5})
    assert largest_budget(ArmMixtures("control", arm, 0.2), Supply({"news": 95.0}, {"news": 4000})) == 10_000
