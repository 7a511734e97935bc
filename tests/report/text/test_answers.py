"""The tables of what more tokens would buy: their words, and both sides of every open end."""

from __future__ import annotations

import pytest

from cpt_ray.compare.efficiency import CENSORED, DEFINITION
from cpt_ray.compare.prices import TokenPrices, with_prices
from cpt_ray.records import Answers, EfficiencyRatio, Estimated, Forecast, RatioTrend, ShareAnswer, ShareRow
from cpt_ray.report.text.answers import answer_tables, interval, refusals, render_answers
from cpt_ray.report.wording import MINUS
from tests.compare.fits.made_up import TOKENS
from tests.compare.test_answers import study


@pytest.fixture(scope="module")
def answers() -> Answers:
    return study()


def titles(answers: Answers) -> list[str]:
    return [table.title for table in answer_tables(answers)]


def test_decisions_stand_before_fits(answers):
    assert titles(answers)[0].startswith("2 times the FLOPs of the largest run (")
    assert titles(answers)[1].startswith("4 times the FLOPs")
    assert titles(answers)[2:] == ["Predicted at the next budget", "Efficiency of domain text", "Fitted curves"]


def test_every_row_has_a_cell_per_column(answers):
    for table in answer_tables(answers):
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_every_exponent_stands_with_its_interval(answers):
    (fits,) = (table for table in answer_tables(answers) if table.title == "Fitted curves")
    parameters = [row[fits.header.index("parameters")] for row in fits.rows]
    assert all("b " in text for text in parameters)
    for text in parameters:
        for one in text.split("; "):
            assert " to " in one or "not determined" in one or "at least" in one or "at most" in one


def test_the_definition_of_the_ratio_is_printed(answers):
    (table,) = (table for table in answer_tables(answers) if table.title == "Efficiency of domain text")
    assert table.notes[0] == DEFINITION
    assert table.notes[1].startswith("Over 3 sizes the measured ratio of arm legal on law goes with parameters to the power ")
    assert any(row[-1].startswith("> ") for row in table.rows)


def test_a_censored_minimum_is_marked_and_its_meaning_said_once(answers):
    plain = Answers(ratios=tuple(one.model_copy(update={"censored": False}) for one in answers.ratios))
    marked = Answers(ratios=(answers.ratios[0].model_copy(update={"censored": True}), *plain.ratios[1:]))
    (without,), (found,) = answer_tables(plain), answer_tables(marked)
    assert [row[1].count("\N{DAGGER}") for row in found.rows] == [1] + [0] * (len(found.rows) - 1)
    assert found.notes.count(CENSORED) == 1
    assert CENSORED not in without.notes
    assert "\N{DAGGER}" not in render_answers(plain)


def test_a_short_study_has_no_curve_in_tokens_and_each_reason_once():
    short = study(tokens=TOKENS[:2])
    (fits,) = (table for table in answer_tables(short) if table.title == "Fitted curves")
    assert all(row[0].endswith("by size") for row in fits.rows)
    assert "Predicted at the next budget" not in titles(short)
    reasons = refusals(short)
    assert len(reasons) == len(set(reasons))
    assert any("2 budgets: a curve needs at least 3, besides the base." in reason for reason in reasons)
    assert "Not fitted: m100, arm legal on law; m100, arm control on law; " in render_answers(short)


def test_the_terminal_prints_answers_and_no_parameters(answers):
    text = render_answers(answers)
    assert "Predicted at the next budget" in text
    assert "for law: " in text
    assert "x0" not in text


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.1, 0.3, "0.200 (0.100 to 0.300)"),
        (None, 0.3, "at most 0.300"),
        (0.1, None, "at least 0.100"),
        (None, None, "not determined"),
    ],
)
def test_an_open_end_is_said(low, high, says):
    assert interval(Estimated(name="b", value=0.2, low=low, high=high)) == says


def test_a_sign_stands_where_it_matters():
    found = Estimated(name="change", value=-0.2, low=-0.3, high=0.1)
    assert interval(found, 1, with_sign=True) == f"{MINUS}0.2 ({MINUS}0.3 to +0.1)"


@pytest.mark.parametrize(
    ("better", "says"), [(True, "better than the base"), (False, "worse than the base"), (None, "cannot be told: why not")]
)
def test_a_forecast_says_what_was_judged_and_not_what_its_interval_shows(better, says):
    change = Estimated(name="change", value=-0.15, low=-0.2, high=-0.1)
    fields = {"model": "m", "arm": "a", "set_name": "s", "role": "domain", "tokens": 1e6, "change": change}
    forecast = Forecast(**fields, better=better, unsure="" if better is not None else "why not")
    (table,) = answer_tables(Answers(forecasts=(forecast,)))
    assert table.rows[0][-1] == says


def test_a_prediction_has_its_price_where_one_is_known_and_nothing_otherwise(answers):
    def priced(answers: Answers) -> dict[str, tuple[str, ...]]:
        return {table.title: (*table.header, *table.notes) for table in answer_tables(answers)}

    plain = priced(answers)
    assert "price" not in plain["Predicted at the next budget"]
    assert not any("EUR" in word for words in plain.values() for word in words)
    money = TokenPrices({(one.model, one.arm): 1e-6 for one in answers.forecasts}, "EUR", "2 EUR per GPU hour on 2026-11-29")
    found = with_prices(answers, money)
    told = priced(found)
    assert "price" in told["Predicted at the next budget"]
    assert any("at 2 EUR per GPU hour on 2026-11-29." in word for word in told[titles(answers)[0]])
    assert any("Prices are of training so many tokens from the base" in word for word in told["Predicted at the next budget"])
    for table in answer_tables(found):
        assert {len(row) for row in table.rows} == {len(table.header)}
    first = next(one for one in found.forecasts if one.change is not None)
    assert f"{first.tokens * 1e-6:.2f} EUR" in render_answers(found)


@pytest.mark.parametrize(("seeds", "said"), [(1, True), (2, False)])
def test_one_seed_is_said_beside_predictions_and_decisions(seeds, said):
    found = study(seeds=seeds)
    for table in answer_tables(found)[:3]:
        assert any(note.startswith("One seed: how far another seed would move this") for note in table.notes) is said


def test_a_ratio_without_a_number_says_why():
    fields = {"model": "m", "parameters": None, "arm": "a", "control": "c", "set_name": "s", "target": "t", "target_loss": 0.9}
    missing = EfficiencyRatio(basis="measured", ratio=None, missing="the control never fell below the base", **fields)
    trend = RatioTrend(arm="a", set_name="s", target="t", sizes=2, exponent=None, missing="2 model sizes")
    (table,) = answer_tables(Answers(ratios=(missing,), trends=(trend,)))
    assert table.rows[0][-1] == "the control never fell below the base"
    assert table.notes[1] == "No trend over sizes: 2 model sizes."


def test_what_was_left_out_is_said_once():
    assert refusals(Answers(unfitted="Curves are fitted for 2 of 5.")) == ["Curves are fitted for 2 of 5."]


def test_nothing_to_say_is_no_table():
    assert answer_tables(Answers()) == []
    assert render_answers(Answers()) == ""


def share_answer(model: str, set_name: str, *changes: tuple[str, float, bool | None]) -> ShareAnswer:
    rows = tuple(
        ShareRow(arm=arm, share=share, change=Estimated(name="change", value=share, low=0.0, high=1.0), within=within)
        for arm, share, within in changes
    )
    return ShareAnswer(
        model=model, set_name=set_name, budget_tokens=1000, tolerance=0.02, rows=rows, answer=f"What {model} shows.",
        fitted=f"What the curve of {model} says." if set_name == "web" else "",
    )  # fmt: skip


def test_domain_shares_of_all_models_and_sets_are_one_table():
    found = [share_answer(m, s, ("a", 0.0, True), ("b", 1.0, False)) for m in ("small", "large") for s in ("web", "perl")]
    (table,) = answer_tables(Answers(shares=tuple(found)))
    assert (table.title, table.answer) == ("Domain share that keeps within the tolerance of 0.02", "")
    assert table.header == ("model and arm", "tokens", "domain share", "web", "perl")
    assert [row[0] for row in table.rows] == ["small, arm a", "small, arm b", "large, arm a", "large, arm b"]
    assert table.rows[0][3] == "within: 0.000 (0.000 to +1.000)"
    assert table.rows[1][4].startswith("exceeds: ")
    assert table.notes[:2] == ("small on web: What the curve of small says.", "large on web: What the curve of large says.")


def test_of_one_model_and_set_the_table_has_the_answer():
    (table,) = answer_tables(Answers(shares=(share_answer("m", "web", ("a", 0.0, None)),)))
    assert table.answer == "What m shows."
    assert table.rows[0][3].startswith("unclear: ")
