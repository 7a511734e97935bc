"""What predictions would cost."""

from __future__ import annotations

import pytest

from cpt_ray.compare.prices import TokenPrices, with_prices
from cpt_ray.records import Answers, Forecast, Spending, SpendingOption

PRICES = TokenPrices({("m", "legal"): 2e-6}, "EUR", "2.5 EUR per GPU hour on 2026-11-29, at the pace of the arm's runs")


def forecast(arm: str) -> Forecast:
    return Forecast(model="m", arm=arm, set_name="law", role="domain", tokens=4e6, change=None)


def option(tokens: float | None) -> SpendingOption:
    return SpendingOption(kind="more tokens", model="m", arm="legal", tokens=tokens, loss=None, against=None)


def test_each_prediction_has_the_price_of_its_tokens_where_its_arm_was_measured():
    spending = Spending(set_name="law", factor=2.0, flops=1e15, options=(option(1e6), option(None)), answer="")
    found = with_prices(Answers(forecasts=(forecast("legal"), forecast("other")), spendings=(spending,)), PRICES)
    known, unknown = (one.price for one in found.forecasts)
    assert (known.amount, known.currency) == (pytest.approx(8.0), "EUR")
    assert unknown is None
    first, second = (one.price for one in found.spendings[0].options)
    assert first.amount == pytest.approx(2.0)
    assert second is None
    assert found.priced == PRICES.basis


def test_without_a_known_price_nothing_is_said():
    answers = Answers(forecasts=(forecast("legal"),))
    assert with_prices(answers, None) is answers
