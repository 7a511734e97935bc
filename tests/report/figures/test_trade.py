"""Gain against forgetting: better is positive on both axes, the set that did worst stands first."""

from dataclasses import replace

from cpt_ray.report.figures.trade import pairs_of, trade_figure, trades
from cpt_ray.report.index import Index
from tests.report.made_up import BASE, BUDGETS, delta, make_contents
from tests.report.made_up_sizes import make_two_domains

LONGEST = f"smollm2-135m-legal-{BUDGETS[-1]}-seed0"


def with_deltas(*more, base=True):
    contents = make_contents()
    deltas = (*(contents.comparison.deltas if base else ()), *more)
    return Index(replace(contents, comparison=contents.comparison.model_copy(update={"deltas": deltas})))


def test_trades_turn_the_sign_so_that_better_is_positive():
    items = {item.subject: item for item in trades(Index(make_contents()), ("licences", "news"))}
    best = items[LONGEST]
    assert best.gain > 0 > best.general
    assert best.gain_bar[0] < best.gain < best.gain_bar[1]
    assert len(items) == 4


def test_of_a_cell_of_several_seeds_only_the_mean_is_drawn():
    cell = f"smollm2-135m-legal-{BUDGETS[-1]} (mean of 3 seeds)"
    index = with_deltas(*(delta(cell, BASE, name, (1.2, 1.3), 0.01) for name in ("licences", "news")))
    assert {LONGEST, cell} & {item.subject for item in trades(index, ("licences", "news"))} == {cell}


def test_the_set_that_did_worst_stands_first():
    contents = make_contents()
    points = [p.model_copy(update={"set_name": "essays"}) for p in contents.comparison.points if p.set_name == "news"]
    deltas = [*contents.comparison.deltas, delta(LONGEST, BASE, "essays", (1.12, 1.10), 0.001, better=False)]
    comparison = contents.comparison.model_copy(
        update={"deltas": tuple(deltas), "points": (*contents.comparison.points, *points)}
    )
    assert pairs_of(Index(contents)) == [("licences", "news")]
    assert pairs_of(Index(replace(contents, comparison=comparison))) == [("licences", "essays"), ("licences", "news")]


def test_the_corners_say_what_they_mean_and_without_differences_there_is_no_figure():
    (panel,) = trade_figure(Index(make_contents()), [("licences", "news")]).panels
    for words in ("better on both", "better on the domain only", "worse on both"):
        assert f">{words}</text>" in panel
    assert trade_figure(with_deltas(base=False), [("licences", "news")]) is None


def test_the_domain_of_another_arm_is_what_an_arm_may_forget():
    index = Index(make_two_domains())
    assert pairs_of(index) == [("licences", "news"), ("news", "licences")]
    drawn = [{item.run.arm for item in trades(index, pair)} for pair in pairs_of(index)]
    assert drawn == [{"matched", "control"}, {"legal", "control"}]
