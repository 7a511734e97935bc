"""What a plan is asked to assume, from Python as from the command line."""

from __future__ import annotations

import pytest

from cpt_ray import Study
from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import load_hardware, parse_price
from cpt_ray.study.api.planning import choose
from cpt_ray.study.cost.cells import Cost
from cpt_ray.study.cost.grid import GridCost
from tests.cli.said import said
from tests.study.test_grid import MIX


def test_what_is_given_as_text_and_as_values_is_the_same_choice():
    h100, price = load_hardware("h100"), parse_price("2.5", "EUR")
    assert choose("h100", "8", "2.5", "EUR") == choose(h100, 8, 2.5, "EUR") == choose(h100, 8, price)
    assert choose() == (None, None, None)
    assert choose(price=2).price.currency == "USD"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"hardware": "h1000"}, "--hardware h1000: there is no such profile"),
        ({"workers": 0}, "--workers 0: not a number of workers"),
        ({"workers": 2.5}, "--workers 2.5: not a number of workers"),
        ({"price": -1}, "--price -1 --currency USD: not a price of an hour"),
        ({"currency": "EUR"}, "--currency EUR without a price"),
        ({"price": parse_price("2", "USD"), "currency": "EUR"}, "--currency EUR without a price"),
    ],
)
def test_what_can_not_be_assumed_is_refused(given, problem):
    with pytest.raises(ConfigError, match=problem):
        choose(**given)


@pytest.mark.parametrize("axes", [(), (MIX,)])
def test_python_prints_what_the_command_line_prints_and_returns_it(tiny, capsys, axes):
    options = ("--hardware", "h100", "--workers", "2", "--price", "2.5", "--fit", "--explain")
    printed = said(capsys, "plan", str(tiny.config), *axes, *options)
    found = Study.load(tiny.config, *axes).plan(hardware="h100", workers=2, price=2.5, fit=True, explain=True)
    assert printed.partition("next: ")[0] == capsys.readouterr().out
    assert isinstance(found, GridCost if axes else Cost)
    assert found.time.money > 0
    assert found.memory[0].fits
    assert found.disk.root_bytes > 0
    assert not tiny.root.exists()
