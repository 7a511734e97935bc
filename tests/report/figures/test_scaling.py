"""The token-scaling figure: curves from the base on, hollow points apart, intervals of differences to the base."""

import re
from dataclasses import replace

from cpt_ray.records import Answers, CurvePoint, Fit
from cpt_ray.report.figures.scaling import scaling_figure
from cpt_ray.report.index import Index
from tests.report.made_up import make_contents

SETS = [("licences", "domain"), ("news", "general")]


def figure(contents=None):
    index = Index(contents or make_contents())
    return scaling_figure(index, index.sets)


def test_without_scores_there_is_no_figure():
    contents = make_contents()
    assert figure(replace(contents, comparison=contents.comparison.model_copy(update={"points": ()}))) is None
    assert scaling_figure(Index(contents), []) is None


def test_each_set_has_a_panel_with_titles_and_the_table_has_every_point():
    found = figure()
    assert len(found.panels) == 2
    assert ">domain: licences</text>" in found.panels[0]
    titles = re.findall("<title>(.*?)</title>", str(found.panels[0]))
    assert "legal 57.6M: 1.215; \N{MINUS SIGN}0.132 to the base (\N{MINUS SIGN}0.136 to \N{MINUS SIGN}0.128)" in titles
    assert any(title.endswith("not annealed") for title in titles)
    assert len(found.table.rows) == len(make_contents().comparison.points)
    assert found == figure()


def with_fit(**changes):
    """The study with a curve through the domain scores of its arm."""
    curve = [
        CurvePoint(tokens=tokens, bits_per_byte=value, low=value - half, high=value + half)
        for tokens, value, half in ((0.0, 1.347, 0.0), (6e6, 1.29, 0.01), (57.6e6, 1.21, 0.02))
    ]
    fields = {
        "kind": "tokens", "formula": "", "model": "smollm2-135m", "arm": "legal", "set_name": "licences", "role": "domain",
        "points": 3, "scores": 3, "seeds": 1, "degrees_of_freedom": 1, "curve": tuple(curve),
    }  # fmt: skip
    contents = make_contents()
    answers = Answers(fits=(Fit(**{**fields, **changes}),))
    return figure(replace(contents, comparison=contents.comparison.model_copy(update={"answers": answers})))


def test_a_fitted_curve_is_drawn_with_its_band_hover_values_and_rows():
    found = with_fit()
    assert str(found.panels[0]).count('class="r"') == 1
    assert 'class="r"' not in found.panels[1]
    assert "legal, fitted curve at 6M: 1.290 (1.280 to 1.300)</title>" in found.panels[0]
    assert "Line with a band: the fitted curve, and the interval (95" in found.caption
    rows = [[cell.text for cell in row] for row in found.table.rows if row[-1].text == "fitted curve"]
    assert rows[1] == ["legal", "licences", "6,000,000", "1.290", "1.280", "1.300", "fitted curve"]
    assert len(rows) == 3


def test_places_of_a_curve_are_no_ticks_of_the_axis():
    first, second = (re.findall('text-anchor="middle">(.*?)</text>', str(found.panels[0])) for found in (figure(), with_fit()))
    assert first == second


def test_a_refused_fit_draws_nothing():
    found = with_fit(curve=(), refused="2 budgets: a curve needs at least 3, besides the base")
    assert found == figure()
    assert not any(row[-1].text == "fitted curve" for row in found.table.rows)


def test_the_legend_names_arms_the_base_and_what_is_hollow():
    assert [entry.label for entry in figure().legend] == [
        "legal", "control", "base, at 0 tokens", "hollow: not annealed, never a budget",
    ]  # fmt: skip
