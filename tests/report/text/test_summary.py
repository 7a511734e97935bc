"""Scores, verdict and differences as printed in a terminal."""

from cpt_ray.report.text.summary import render_deltas, render_summary
from tests.report.made_up import make_contents


def test_each_model_has_a_row_and_the_headline_follows() -> None:
    contents = make_contents()
    text = render_summary(contents.comparison, contents.evals, not_annealed=(), isolated=True)
    lines = text.splitlines()
    for record in contents.evals:
        assert any(line.startswith(record.run) for line in lines)
    assert contents.comparison.headline in lines
    assert contents.comparison.verdict in lines
    assert "not annealed" not in text
    assert "isolation" not in text


def test_a_point_that_is_no_budget_and_a_leak_are_marked() -> None:
    contents = make_contents()
    last = contents.evals[-1].run
    text = render_summary(contents.comparison, contents.evals, not_annealed={last}, isolated=False)
    assert f"{last} *" in text
    assert "* not annealed: its learning rate has not decayed" in text
    assert "isolation: none: packed documents see each other in every figure above" in text


def test_a_merge_is_marked() -> None:
    contents = make_contents()
    last = contents.evals[-1].run
    text = render_summary(contents.comparison, contents.evals, not_annealed=(), isolated=True, merged={last})
    assert f"{last} +" in text
    assert "+ made without training: no tokens were paid for it, and it is not a budget" in text.splitlines()


def test_a_difference_that_is_not_resolved_says_so() -> None:
    comparison = make_contents().comparison
    lines = render_deltas(comparison).splitlines()[2:]
    assert len(lines) == len(comparison.deltas)
    for line, delta in zip(lines, comparison.deltas, strict=True):
        assert line.endswith({True: "better", False: "worse", None: "not measurable"}[delta.better])
