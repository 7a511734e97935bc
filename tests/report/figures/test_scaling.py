"""The token-scaling figure: curves from the base on, hollow points apart, intervals of differences to the base."""

import re
from dataclasses import replace

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


def test_the_legend_names_arms_the_base_and_what_is_hollow():
    assert [entry.label for entry in figure().legend] == [
        "legal", "control", "base, at 0 tokens", "hollow: not annealed, never a budget",
    ]  # fmt: skip
