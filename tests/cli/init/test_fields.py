"""Fields are proposed by name and by what they hold."""

from __future__ import annotations

import pytest

from cpt_ray.cli.init.fields import propose_fields

LONG = "a sentence that is long enough to be text, and some more of it. " * 3


def rows(count=6, **fields):
    return [{name: value(n) if callable(value) else value for name, value in fields.items()} for n in range(count)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": LONG, "id": str}, {"text_field": "text", "id_field": "id"}),
        ({"Body": LONG, "title": "short"}, {"text_field": "Body"}),
        ({"html_free": LONG * 5, "summary": LONG}, {"text_field": "html_free"}),
        ({"content": LONG, "raw": LONG * 2}, {"text_field": "content"}),
        ({"content": "a label", "story": LONG * 2}, {"text_field": "story"}),
        ({"data": {"body": LONG, "deep": {"uid": 7}}}, {"text_field": "data.body"}),
        ({"text": LONG, "id": "the same"}, {"text_field": "text"}),
        ({"text": LONG, "lang": "de-AT"}, {"text_field": "text", "language_field": "lang"}),
        ({"text": LONG, "lang": "a description of it"}, {"text_field": "text"}),
        (
            {"text": LONG, "meta": {"url": "https://a.b/c", "date": "2024-01-02", "license": "CC0"}},
            {"text_field": "text", "origin_field": "meta.url", "date_field": "meta.date", "license_field": "meta.license"},
        ),
    ],
)
def test_fields_are_found_by_name_and_content(fields, expected):
    found = propose_fields(rows(**fields))
    assert found is not None
    assert dict(found.named) == expected


@pytest.mark.parametrize("records", [[], rows(id=str, label="x"), rows(text=[LONG]), rows(text={"a": 1})])
def test_records_without_text_have_no_fields(records):
    assert propose_fields(records) is None


def test_a_field_that_some_records_lack_is_neither_text_nor_id():
    records = [*rows(body=LONG, id=str), {"body": LONG, "text": LONG}]
    found = propose_fields(records)
    assert found is not None
    assert dict(found.named) == {"text_field": "body"}


def test_the_share_of_text_in_a_record_is_measured():
    found = propose_fields(rows(text="a" * 300, other="b" * 100))
    assert found is not None
    assert (found.characters, found.share) == (300, 0.75)
