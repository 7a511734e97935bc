"""The page's twins: Markdown to send on, JSON with every table."""

import json
from dataclasses import replace

from cpt_ray.report.index import Index
from cpt_ray.report.page import write_report
from cpt_ray.report.sections import opening, sections
from cpt_ray.report.twins import render_json, render_markdown
from tests.report.made_up import VERDICT, make_contents
from tests.report.made_up_sizes import make_sizes


def twins(contents):
    index = Index(contents)
    first, parts = opening(index), sections(index)
    return render_markdown(contents, first, parts, "report.html", "report.json"), json.loads(
        render_json(contents, first, parts)
    )


def test_markdown_has_the_headline_the_tables_and_links():
    markdown, _ = twins(make_sizes())
    lines = markdown.splitlines()
    assert lines[2] == "**m16, matched: domain gain 0.1 bits per byte, no measurable forgetting.**"
    assert "### Results of m16, matched" in lines
    assert "| licences, domain | 1.200 |" in markdown
    assert "## What to do next" in lines
    assert "[page](report.html)" in markdown


def test_text_from_outside_is_no_markup_in_markdown():
    markdown, _ = twins(make_contents(study="<b>a|b</b> `x`\n# y"))
    assert markdown.splitlines()[0] == "# &#60;b&#62;a\\|b&#60;/b&#62; \\`x\\` # y"


def test_json_has_every_table_and_figure_with_values_as_they_were():
    contents = make_contents()
    _, data = twins(contents)
    assert data["verdict"] == VERDICT
    tables = data["tables"]
    assert {
        "results_smollm2-135m_legal",
        "figure_scaling",
        "figure_loss",
        "scores",
        "differences",
        "funnel_news",
        "runs",
    } <= set(tables)
    first = tables["results_smollm2-135m_legal"]["rows"][0]
    assert first[1] == 1.347
    assert first[4]["value"] == 1.215
    assert first[4]["better"] is True
    assert first[4]["difference"] == contents.comparison.deltas[2].difference
    assert all(len(row) == len(table["header"]) for table in tables.values() for row in table["rows"])


def test_a_number_that_is_not_there_is_null_and_not_a_dash():
    contents = make_contents()
    deltas = tuple(one.model_copy(update={"relative_percent": None}) for one in contents.comparison.deltas)
    _, data = twins(replace(contents, comparison=contents.comparison.model_copy(update={"deltas": deltas})))
    table = data["tables"]["differences"]
    assert {row[table["header"].index("relative")] for row in table["rows"]} == {None}


def test_a_loss_that_is_no_number_is_null():
    contents = make_contents()
    run = contents.runs[1].run
    bad = tuple(step.model_copy(update={"loss": float("nan")}) for step in contents.metrics[run])
    _, data = twins(make_contents(metrics={run: bad}))
    assert data["tables"]["figure_loss"]["rows"][0][2] is None


def test_all_three_are_written_together_and_are_the_same_bytes_each_time(tmp_path):
    names = ("report.html", "report.md", "report.json")
    write_report(tmp_path / "report.html", make_sizes())
    first = [(tmp_path / name).read_bytes() for name in names]
    write_report(tmp_path / "report.html", make_sizes())
    assert [(tmp_path / name).read_bytes() for name in names] == first
