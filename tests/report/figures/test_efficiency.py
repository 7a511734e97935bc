"""Gain per million tokens: by hand."""

from dataclasses import replace

from cpt_ray.report.figures.efficiency import efficiency_figure
from cpt_ray.report.index import Index
from tests.report.made_up import make_contents


def test_the_gain_is_divided_by_the_tokens_and_the_last_step_by_its_own():
    found = efficiency_figure(Index(make_contents()))
    assert len(found.panels) == 2
    rows = [[cell.text for cell in row] for row in found.table.rows]
    # 0.056 over 6M tokens, then 0.047 over 13.2M more, then 0.029 over 38.4M more.
    assert [row[4:] for row in rows[:3]] == [["+0.00933", "+0.00933"], ["+0.00536", "+0.00356"], ["+0.00229", "+0.000755"]]
    assert rows[3][0] == "control"


def test_without_differences_there_is_no_figure():
    contents = make_contents()
    assert efficiency_figure(Index(replace(contents, comparison=contents.comparison.model_copy(update={"deltas": ()})))) is None
