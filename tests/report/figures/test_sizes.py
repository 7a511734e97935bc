"""Sizes and arms: fitted laws through measured points, ratios with intervals, bounds as arrows."""

from dataclasses import replace

import pytest

from cpt_ray.records import Answers
from cpt_ray.report.figures.sizes import compute_figure, ratio_figure
from cpt_ray.report.figures.svg import DAGGER, MARKERS
from cpt_ray.report.index import Index
from tests.report.made_up import make_contents
from tests.report.made_up_sizes import make_sizes


def test_every_budget_is_a_point_at_its_flops_and_a_fitted_arm_has_its_law():
    found = compute_figure(Index(make_sizes()))
    (panel,) = found.panels
    assert found.said == ""
    many = compute_figure(Index(make_sizes(models=("m1",), arms=[f"arm{i}" for i in range(20)])))
    assert "Drawn: " in many.said
    assert panel.count(", fitted power law at ") == 24 * 6
    assert panel.count('class="m"') == len(found.table.rows)
    assert float(found.table.rows[0][2].text) == pytest.approx(6 * 16e6 * 2e6)
    one = compute_figure(Index(make_sizes(models=("m1",), arms=("legal",))))
    assert one.panels[0].count('class="l"') == 1  # the control has no fit here


def test_one_arm_without_a_control_has_nothing_to_compare():
    assert compute_figure(Index(make_sizes(models=("m1",), arms=("legal",), control=False))) is None
    assert ratio_figure(Index(make_contents())) is None


def test_a_ratio_stands_over_parameters_with_its_interval_and_a_bound_is_an_arrow():
    found = ratio_figure(Index(make_sizes(arms=("legal",))))
    (panel,) = found.panels
    assert panel.count('class="m"') == 3
    assert "<title>m4, legal, to reach the control&#39;s lowest loss (measured): &gt; 4.00</title>" in panel
    assert "3.00 (2.00 to 5.00)" in panel
    assert "l4 " in panel  # the arrow's head
    assert [row[5].text for row in found.table.rows] == ["3.000", "> 4.00", "3.000"]


def test_a_censored_ratio_has_a_dagger_beside_it_and_says_so():
    contents = make_sizes(arms=("legal",))
    answers = contents.comparison.answers
    first, *others = answers.ratios
    marked = answers.model_copy(update={"ratios": (first.model_copy(update={"censored": True}), *others)})
    changed = replace(contents, comparison=contents.comparison.model_copy(update={"answers": marked}))
    plain, found = ratio_figure(Index(contents)), ratio_figure(Index(changed))
    assert plain.panels[0].count(MARKERS[DAGGER]) == 0
    assert found.panels[0].count(MARKERS[DAGGER]) == 1
    assert "lowest loss, censored (measured): 3.00" in found.panels[0]
    assert [row[2].text for row in found.table.rows].count("the control's lowest loss, censored (measured)") == 1
    assert [len(one.legend) for one in (plain, found)] == [3, 4]


def test_ratios_of_one_size_or_of_unknown_ones_are_left_to_the_table():
    assert ratio_figure(Index(make_sizes(models=("m1",)))) is None
    contents = make_sizes()
    answers = contents.comparison.answers
    unknown = Answers(ratios=tuple(one.model_copy(update={"parameters": None}) for one in answers.ratios))
    changed = make_sizes()
    object.__setattr__(changed, "comparison", contents.comparison.model_copy(update={"answers": unknown}))
    assert ratio_figure(Index(changed)) is None
