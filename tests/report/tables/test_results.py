"""The table that a page opens with: values, differences with intervals, arrows only where a difference is measurable."""

import math
from dataclasses import replace

from cpt_ray.records import FailedScore
from cpt_ray.report.index import Index
from cpt_ray.report.tables.results import delta_cell, result_tables, short_labels
from cpt_ray.report.wording import MINUS, number
from tests.report.made_up import BASE, LABEL, delta, make_contents
from tests.report.made_up_sizes import make_sizes, make_two_domains

NONE = number(None)


def test_rows_are_sets_and_exams_and_columns_base_budgets_and_control():
    (table,) = result_tables(Index(make_contents()))
    assert table.header == ("", "base", "6M", "19.2M", "57.6M", "control, 57.6M")
    assert [(row[0].text, row[0].small) for row in table.rows] == [
        ("licences", ("domain",)), ("news", ("general",)), ("mmlu_dev_smoke", ("exam, chance 25\N{NO-BREAK SPACE}%",)),
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[0][1:]] == ["1.347", "1.291", "1.244", "1.215", "1.341"]
    assert not table.fold


def test_an_exam_that_failed_says_so_in_its_cell_with_the_reason():
    contents = make_contents()
    *others, last = contents.evals
    failed = tuple(FailedScore(run=last.run, task=task, reason="no data", fix="-") for task in ("mmlu_dev_smoke", "other"))
    evals = (*others, last.model_copy(update={"exams": (), "failed": failed}))
    (table,) = result_tables(Index(replace(contents, evals=evals)))
    exam, other = table.rows[2:]
    column = 5  # of the control, which is the last model
    assert (exam[column].text, exam[column].small, exam[column].raw) == ("failed:", ("no data",), "failed: no data")
    assert [cell.text for cell in exam[1:column]].count("failed:") == 0
    assert [cell.text for cell in other] == ["other", *[NONE] * (column - 1), "failed:"]


def test_an_arrow_stands_only_where_a_difference_is_measurable():
    better = delta_cell(delta("a", BASE, "licences", (1.2, 1.3), 0.01))
    assert (better.mark, better.tone) == ("↓ better", "good")
    assert better.small == (f"{MINUS}0.100", f"{MINUS}0.110 to {MINUS}0.090")
    worse = delta_cell(delta("a", BASE, "news", (1.2, 1.1), 0.01))
    assert (worse.mark, worse.tone) == ("↑ worse", "bad")
    assert delta_cell(delta("a", BASE, "mmlu_dev_smoke", (40.0, 30.0), 1.0)).mark == "↑ better"
    vague = delta_cell(delta("a", BASE, "licences", (1.2, 1.3), 0.2))
    assert (vague.mark, vague.tone) == ("", "")
    assert vague.raw["better"] is None
    none = delta_cell(delta("a", BASE, "licences", (1.2, 1.3), 0.2, interval=None))
    assert none.small[1] == "no interval"


def test_an_interval_without_0_that_is_not_measurable_says_which_judgment_it_did_not_pass():
    found = delta_cell(delta("a", BASE, "licences", (1.2, 1.3), 0.01, better=None, adjusted_p_value=0.0671))
    assert (found.mark, found.small[-1]) == ("", "Holm p = 0.067")
    assert delta_cell(delta("a", BASE, "licences", (1.2, 1.3), 0.2)).small[-1] == f"{MINUS}0.300 to +0.100"
    contents = make_contents()
    deltas = tuple(d.model_copy(update={"better": None}) for d in contents.comparison.deltas)
    unclear = replace(contents, comparison=contents.comparison.model_copy(update={"deltas": deltas}))
    said = "where an interval without 0 has none, the p-value of that judgment stands below."
    assert [said in result_tables(Index(one))[0].notes[0] for one in (contents, unclear)] == [False, True]


def test_each_model_and_arm_has_a_table_and_only_the_first_is_open():
    tables = result_tables(Index(make_sizes()))
    assert len(tables) == 6
    assert [table.fold for table in tables] == [False] + [True] * 5
    assert tables[0].title == "Results of m16, matched"
    assert len({table.name for table in tables}) == 6
    assert tables[0].notes
    assert not tables[1].notes


def test_one_budget_no_control_and_no_exams_are_tables_too():
    contents = make_sizes(models=("m1",), arms=("legal",), budgets=(2_000_000,), seeds=(0,), control=False)
    contents = replace(contents, evals=tuple(record.model_copy(update={"exams": ()}) for record in contents.evals))
    (table,) = result_tables(Index(contents))
    assert table.header == ("", "base", "2M")
    assert [row[0].text for row in table.rows] == ["licences", "news"]
    assert table.title == ""


def with_measures(style="letter", letter_perplexity=4.0, margin=0.1):
    """A study whose exam has a perplexity of the letter and a margin, with a difference at the largest budget only."""
    contents = make_contents()
    fields = {"style": style, "letter_perplexity": letter_perplexity, "margin": margin}
    evals = tuple(e.model_copy(update={"exams": tuple(x.model_copy(update=fields) for x in e.exams)}) for e in contents.evals)
    largest = contents.comparison.deltas[-1].subject
    added = [
        delta(largest, BASE, "mmlu_dev_smoke", (math.log(2.0), math.log(4.0)), 0.1, measure="letter_nats", better=True),
        delta(largest, BASE, "mmlu_dev_smoke", (0.3, 0.1), 0.3, measure="margin_nats", better=None, relative_percent=None),
    ]
    comparison = contents.comparison.model_copy(update={"deltas": (*contents.comparison.deltas, *added)})
    return replace(contents, evals=evals, comparison=comparison)


def test_the_letters_perplexity_and_the_margin_have_differences_with_intervals_like_accuracy():
    (table,) = result_tables(Index(with_measures()))
    letter, margin = table.rows[-2:]
    assert letter[0].small == ("perplexity of the letter, lower is better; differences: log of the ratio, nats",)
    assert [cell.text for cell in letter[1:3]] == ["4.00", NONE]
    (cell,) = (cell for cell in letter[2:] if cell.text != NONE)
    assert (cell.text, cell.mark) == ("2.00", "↓ better")
    assert cell.small == (f"{MINUS}0.693", f"{MINUS}0.793 to {MINUS}0.593")
    assert margin[0].small[0].startswith("margin: ")
    (cell,) = (cell for cell in margin[2:] if cell.text != NONE)
    assert (cell.text, cell.mark, cell.small[0]) == ("0.300", "", "+0.200")


def test_a_task_of_lm_eval_has_its_margin_among_all_differences_and_not_on_the_first_screen():
    (table,) = result_tables(Index(with_measures(style=None, letter_perplexity=None)))
    assert [row[0].text for row in table.rows] == ["licences", "news", "mmlu_dev_smoke"]


def test_a_long_label_of_an_exam_stands_in_the_legend():
    assert short_labels(Index(make_contents())) == {"mmlu_dev_smoke": LABEL}


def test_the_domain_of_another_arm_is_a_probe_and_stands_below_its_own():
    tables = result_tables(Index(make_two_domains()))
    other = "probe: the domain of another arm"
    assert [[(row[0].text, row[0].small[0]) for row in table.rows[:2]] for table in tables] == [
        [("licences", "domain"), ("news", other)],
        [("news", "domain"), ("licences", other)],
    ]
