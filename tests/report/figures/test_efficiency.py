"""Gain per million tokens: by hand."""

from dataclasses import replace

from cpt_ray.report.figures.efficiency import efficiency_figure
from cpt_ray.report.index import Index
from tests.report.made_up import BUDGETS, delta, make_contents
from tests.report.made_up_sizes import make_two_domains


def test_the_gain_is_divided_by_the_tokens_and_the_last_step_by_its_own():
    found = efficiency_figure(Index(make_contents()))
    assert len(found.panels) == 2
    rows = [[cell.text for cell in row] for row in found.table.rows]
    # 0.056 over 6M tokens, then 0.047 over 13.2M more, then 0.029 over 38.4M more.
    per_million = [[row[4], row[7]] for row in rows[:3]]
    assert per_million == [["+0.00933", "+0.00933"], ["+0.00536", "+0.00356"], ["+0.00229", "+0.000755"]]
    assert rows[3][0] == "control"


def test_the_last_step_has_the_interval_of_the_paired_difference_to_the_budget_before():
    contents = make_contents()
    names = {run.budget_tokens: run.run for run in contents.runs if run.arm == "legal" and run.kind == "cooldown"}
    # A step of 13.2M tokens that gained 0.047, give or take 0.0066.
    step = delta(names[BUDGETS[1]], names[BUDGETS[0]], "licences", (1.244, 1.291), 0.0066)
    deltas = [one for one in contents.comparison.deltas if one.reference != names[BUDGETS[0]]]
    changed = replace(contents, comparison=contents.comparison.model_copy(update={"deltas": (*deltas, step)}))
    found = efficiency_figure(Index(changed))
    first, second, third = [[cell.text for cell in row] for row in found.table.rows][:3]
    assert first[4:7] == first[7:10]  # the first step is that from the base
    assert second[7:10] == ["+0.00356", "+0.00306", "+0.00406"]
    assert "+0.00356 (+0.00306 to +0.00406) per million tokens of the last step" in found.panels[1]
    assert found.panels[1].count('class="e"') >= 2
    assert third[7] != third[8]


def test_without_differences_there_is_no_figure():
    contents = make_contents()
    assert efficiency_figure(Index(replace(contents, comparison=contents.comparison.model_copy(update={"deltas": ()})))) is None


def test_an_arm_has_a_gain_on_its_own_domain_only():
    found = efficiency_figure(Index(make_two_domains()))
    assert {(row[0].text, row[1].text) for row in found.table.rows} == {
        ("matched", "licences"), ("legal", "news"), ("control", "licences"), ("control", "news"),
    }  # fmt: skip
