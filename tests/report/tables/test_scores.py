"""Tables of everything that was scored: sorted, with short names, and what is not annealed said."""

from dataclasses import replace

from cpt_ray.records import ExamHalf
from cpt_ray.report.index import Index
from cpt_ray.report.tables.scores import HOLLOW, delta_tables, exam_tables, merge_table, overview, score_table
from tests.report.made_up import LABEL, make_contents, run_record
from tests.report.made_up_sizes import make_sizes, make_two_domains


def test_scores_are_sorted_by_set_then_tokens_with_the_domain_first():
    table = score_table(Index(make_contents()))
    assert [row[0].text for row in table.rows] == ["licences (domain)"] * 5 + ["news (general)"] * 5
    tokens = [row[3].raw for row in table.rows[:5]]
    assert tokens == sorted(tokens)
    assert not any(row[2].small for row in table.rows)


def test_a_model_that_is_not_annealed_is_no_budget():
    contents = make_contents()
    mark = run_record("x", "trajectory", "legal", 7, 7, annealed=False)
    record = contents.evals[-1].model_copy(update={"run": "x"})
    index = Index(replace(contents, runs=(*contents.runs, mark), evals=(*contents.evals, record)))
    assert (HOLLOW,) in [row[2].small for row in score_table(index).rows]


def test_differences_carry_short_names_and_judgments():
    held_out, exams = delta_tables(Index(make_contents()))
    assert [cell.text for cell in held_out.rows[0][:4]] == ["licences (domain)", "legal 6M", "base", "better"]
    assert len(held_out.rows) == 10
    assert [row[0].text for row in exams.rows] == ["mmlu_dev_smoke"]
    assert held_out.notes[0].startswith("Every interval: 95\N{NO-BREAK SPACE}%, over documents")


def test_an_exam_has_its_label_once_and_its_halves():
    (table,) = exam_tables(Index(make_contents()))
    assert table.lead.startswith(f"{LABEL} (chance is 25.0")
    assert len(table.rows) == 5
    halves = (
        ExamHalf(half="validation", items=31, accuracy=0.3, letter_perplexity=None, margin=None),
        ExamHalf(half="test", items=29, accuracy=None, letter_perplexity=None, margin=None),
    )
    contents = make_contents()
    evals = tuple(
        e.model_copy(update={"exams": tuple(x.model_copy(update={"halves": halves}) for x in e.exams)}) for e in contents.evals
    )
    (table,) = exam_tables(Index(replace(contents, evals=evals)))
    assert table.header[-2:] == ("validation half", "test half")
    assert table.rows[0][-2].small == ("31 items",)


def test_the_overview_compares_models_and_arms_and_one_alone_has_none():
    assert overview(Index(make_contents())) is None
    table = overview(Index(make_sizes()))
    assert [row[0].text for row in table.rows[:2]] == ["m16, matched", "m16, legal"]
    assert table.header[-1] == "licences, against the control"
    assert table.rows[0][-1].mark == "↓ better"


def test_a_study_without_merges_has_no_table_of_them():
    assert merge_table(Index(make_contents())) is None


def test_an_overview_says_where_a_domain_is_a_probe_for_an_arm():
    table = overview(Index(make_two_domains()))
    assert table.header[3:5] == ("licences (domain)", "news (domain)")
    said = [["probe for this arm" in cell.small for cell in row[3:5]] for row in table.rows]
    assert said == [[False, True], [True, False]]
