"""Tables of the text: hand-computed sums, and ledgers that do not balance."""

from dataclasses import replace

import pytest

from cpt_ray.records import Amount
from cpt_ray.records.shards import ShardTable
from cpt_ray.report.tables.corpus import LOST, exam_scan_tables, funnel_rows, funnel_tables, ledger_table, ledgers, text_tables
from tests.report.made_up import exam_hit, make_contents


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


def test_what_does_not_balance_is_called_out_in_the_table():
    contents = make_contents()
    first, *rest = contents.manifest.shards
    wrong = first.model_copy(update={"padding": first.padding + 1})
    manifest = contents.manifest.model_copy(update={"shards": ShardTable.of([wrong, *rest])})
    assert [row[1].text for row in ledger_table(replace(contents, manifest=manifest)).rows] == [LOST, "yes"]
    assert [row[1].text for row in ledger_table(contents).rows] == ["yes", "yes"]
    assert len(funnel_tables(contents)) == 2


def test_of_many_matches_some_are_shown_and_the_rest_is_counted():
    contents = replace(make_contents(), exam_hits=(exam_hit("piqa", "words"),) * 60)
    _, hits = exam_scan_tables(contents)
    assert hits.title == "Matches (60, 50 shown)"
    assert len(hits.rows) == 50
    assert exam_scan_tables(replace(contents, scans=())) == []


def test_languages_terms_and_samples_have_tables_where_they_were_measured():
    assert [table.name for table in text_tables(make_contents())] == ["languages", "terms", "dropped_samples"]
    assert (
        text_tables(replace(make_contents(), languages={}, redacted={}, samples=(), profile=type(make_contents().profile)()))
        == []
    )
