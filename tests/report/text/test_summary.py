"""Scores, verdict and differences as printed in a terminal."""

from cpt_ray.records import FailedScore
from cpt_ray.report.text.summary import render_deltas, render_summary
from tests.report.made_up import make_contents
from tests.report.made_up_sizes import make_sizes


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


def test_each_model_and_arm_has_its_sentences_in_lines_of_their_own() -> None:
    contents = make_sizes()
    lines = render_summary(contents.comparison, contents.evals, not_annealed=(), isolated=True).splitlines()
    said = [one.headline for one in contents.comparison.conclusions]
    assert len(said) > 1
    start = lines.index(said[0])
    assert lines[start : start + len(said)] == said


def test_a_study_of_bases_says_that_nothing_was_compared() -> None:
    contents = make_contents()
    alone = contents.comparison.model_copy(update={"conclusions": ()})
    assert "Only base models were scored." in render_summary(alone, contents.evals[:1], not_annealed=(), isolated=True)


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


def test_documents_of_which_only_the_beginning_is_scored_are_counted() -> None:
    contents = make_contents()
    first, *others = contents.evals
    cut = tuple(score.model_copy(update={"cut_documents": 7 * (score.source == "news")}) for score in first.held_out)
    evals = (first.model_copy(update={"held_out": cut}), *others)
    text = render_summary(contents.comparison, evals, not_annealed=(), isolated=True)
    line = "news (test): 7 of 500 documents go on after evaluate.document_tokens; their beginning is scored"
    assert line in text.splitlines()
    assert text.count("go on after") == 1
    assert "go on after" not in render_summary(contents.comparison, contents.evals, not_annealed=(), isolated=True)


def test_an_exam_that_failed_says_so_in_its_cell_and_the_validation_half_has_no_column() -> None:
    contents = make_contents()
    first, *others, last = contents.evals
    halves = (*first.held_out, *(one.model_copy(update={"part": "validation"}) for one in first.held_out))
    failed = FailedScore(run=last.run, task=last.exams[0].task, reason="the data set is a script, which is refused", fix="-")
    evals = (first.model_copy(update={"held_out": halves}), *others, last.model_copy(update={"exams": (), "failed": (failed,)}))
    text = render_summary(contents.comparison, evals, not_annealed=(), isolated=True)
    [row] = [line for line in text.splitlines() if line.startswith(last.run)]
    assert "failed: the data set is a script, ..." in row
    assert text.count("failed:") == 1
    assert text.splitlines()[1].count("bits/byte") == len(first.held_out)


def test_a_difference_that_is_not_resolved_says_so() -> None:
    comparison = make_contents().comparison
    lines = render_deltas(comparison.deltas).splitlines()[2:]
    assert len(lines) == len(comparison.deltas)
    for line, delta in zip(lines, comparison.deltas, strict=True):
        assert line.endswith({True: "better", False: "worse", None: "not measurable"}[delta.better])
