"""Rows of the page's tables: hand-computed sums, ledgers that do not balance, and which difference comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cpt_ray.records import Amount, RunEvent
from cpt_ray.records.shards import ShardTable
from cpt_ray.report.tables import (
    exam_labels,
    exam_rows,
    funnel_rows,
    held_out_deltas,
    kernels,
    ledgers,
    mfu_bases,
    score_rows,
    tiles,
    warning_rows,
    watch_rows,
)
from tests.report.made_up import BASE, BUDGETS, FLOPS_BASIS, LABEL, PEAK_BASIS, delta, make_contents

LONGEST = f"smollm2-135m-legal-{BUDGETS[-1]}-seed0"
CONTROL = f"smollm2-135m-control-{BUDGETS[-1]}-seed0"


def test_the_funnel_balances_until_a_document_or_a_byte_is_lost():
    contents = make_contents()
    rows = funnel_rows(contents)
    assert list(rows) == ["licences", "news"]
    assert all(row.balanced for of_source in rows.values() for row in of_source)
    clean = rows["licences"][1]
    assert clean.lost.documents == 3120 + 911 + 204
    assert clean.kept_share == clean.report.kept.documents / 118_402
    for lost in (Amount(documents=1), Amount(bytes=1)):
        first, *rest = contents.funnel
        wrong = first.model_copy(
            update={"kept": Amount(documents=first.kept.documents - lost.documents, bytes=first.kept.bytes - lost.bytes)}
        )
        changed = funnel_rows(replace(contents, funnel=(wrong, *rest)))
        assert [row.balanced for row in changed["licences"]] == [False] + [True] * 5


def test_a_ledger_sums_its_shards_and_notices_what_does_not_add_up():
    contents = make_contents()
    licences, news = ledgers(contents)
    assert (licences.source, licences.shards, licences.rows, licences.slots) == ("licences", 8, 32_000, 32_000 * 2048)
    assert licences.balanced
    assert news.balanced
    assert licences.padding_share == pytest.approx(licences.padding / licences.slots)
    for key in ("padding", "loss_tokens", "separator_tokens"):
        first, *rest = contents.manifest.shards
        wrong = first.model_copy(update={key: getattr(first, key) + 1})
        manifest = contents.manifest.model_copy(update={"shards": ShardTable.of([wrong, *rest])})
        assert [ledger.balanced for ledger in ledgers(replace(contents, manifest=manifest))] == [False, True]


def tile(contents, title):
    return next(found for found in tiles(contents) if found.title.startswith(title))


def test_the_tiles_show_the_largest_budget_against_base_and_control():
    contents = make_contents()
    domain = tile(contents, "Domain, against the base")
    assert (domain.value, domain.tone) == ("0.132 better", "good")
    assert domain.note.startswith(f"{LONGEST} against {BASE}.")
    assert "95 % interval" in domain.detail
    assert tile(contents, "Domain, against the control").note.startswith(f"{LONGEST} against {CONTROL}.")
    assert tile(contents, "Tokens seen").value == "57.6M"
    assert tile(contents, "Wall time").detail.startswith("sum of the stages")


def test_a_difference_that_may_be_chance_is_called_that_and_a_missing_one_is_not_measured():
    contents = make_contents()
    unclear = tuple(d.model_copy(update={"better": None}) for d in contents.comparison.deltas)
    comparison = contents.comparison.model_copy(update={"deltas": unclear})
    found = tile(replace(contents, comparison=comparison), "Domain, against the base")
    assert found.value.startswith("not measurable (")
    assert found.tone == "plain"
    nothing = contents.comparison.model_copy(update={"deltas": ()})
    assert tile(replace(contents, comparison=nothing), "Domain, against the base").value == "not measured"


def test_of_several_general_texts_the_worst_measured_one_leads():
    contents = make_contents()
    clear = delta(LONGEST, BASE, "essays", (1.12, 1.10), 0.001, better=False)
    vague = delta(LONGEST, BASE, "letters", (1.20, 1.10), 0.2, better=None)
    deltas = (*contents.comparison.deltas, vague, clear)
    found = tile(
        replace(contents, comparison=contents.comparison.model_copy(update={"deltas": deltas})), "General text that did worst"
    )
    assert "on essays" in found.detail
    assert found.tone == "bad"


def test_scores_are_sorted_by_set_then_tokens_with_the_domain_first():
    contents = make_contents()
    rows = score_rows(contents)
    assert [row.score.source for row in rows] == ["licences"] * 5 + ["news"] * 5
    assert [row.tokens_seen for row in rows[:5]] == sorted(row.tokens_seen for row in rows[:5])
    assert {row.annealed for row in rows} == {True}
    assert held_out_deltas(contents)[0].role == "domain"
    (exam,) = exam_rows(contents).values()
    assert len(exam) == 5
    assert exam_labels(contents.evals) == {"mmlu_dev_smoke": LABEL}


def test_shares_of_time_are_of_steps_checkpoints_and_held_out_losses_together():
    row = watch_rows(make_contents())[0]
    assert row.seconds == pytest.approx(row.cost.wall_s + 4.2 + 6.1)
    assert row.checkpoint == pytest.approx(4.2 / row.seconds)
    assert row.planned is not None
    assert BASE not in {found.run for found in watch_rows(make_contents())}


def test_a_warning_is_one_row_however_many_workers_and_steps_said_it():
    def warned(step, rank, text="uneven batch split"):
        return RunEvent(kind="warning", attempt=1, step=step, tokens_seen=0, text=text, rank=rank)

    contents = replace(make_contents(), warnings={"a": (warned(5, 0), warned(2, 1), warned(7, 1), warned(1, 0, "other"))})
    rows = [(row.run, row.text, row.step, row.workers) for row in warning_rows(contents)]
    assert rows == [("a", "uneven batch split", 2, 2), ("a", "other", 1, 1)]


def test_the_bases_of_mfu_are_named_once():
    assert mfu_bases(make_contents()) == [(PEAK_BASIS, FLOPS_BASIS)]


def test_what_computed_the_runs_is_listed_once():
    assert kernels(make_contents()) == [("sdpa", "q_proj+k_proj+v_proj in 30 layers", "compiled chunks")]
