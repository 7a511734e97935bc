"""From the fields of a record to a document, or to the reason why it is not one."""

import datetime
import hashlib
from pathlib import Path

import pytest

from cpt_ray.data.read.documents import Rejected, from_record, make_document, missing_columns
from cpt_ray.records import Document
from tests.data.read.test_formats import read, source, write_jsonl

SOURCE = source("a.jsonl", "jsonl", id_field="key", license_field="terms", default_language="en")


def test_a_document_without_an_id_is_named_by_its_content(tmp_path: Path) -> None:
    config = source(write_jsonl(tmp_path / "a.jsonl", [{"text": "same"}, {"text": "same"}, {"text": "other"}]), "jsonl")
    ids = [item.id for item in read(config)]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 16


def test_fields_go_under_the_names_that_a_document_has_for_them() -> None:
    row = {"text": "words", "key": 7, "terms": "MIT", "other": "x"}
    assert from_record(row, SOURCE, b"") == Document("7", "words", "law", "en", license="MIT")


def test_what_a_field_does_not_say_the_source_does() -> None:
    made = make_document(SOURCE, "words", {"id": "a", "language": None, "license": ""})
    assert made == Document("a", "words", "law", "en")
    assert make_document(SOURCE, "words", {"id": "a", "language": "de"}) == Document("a", "words", "law", "de")


def test_a_date_is_written_as_iso() -> None:
    made = make_document(SOURCE, "words", {"id": "a", "date": datetime.date(2024, 2, 29)})
    assert isinstance(made, Document)
    assert made.date == "2024-02-29"


def test_a_document_without_an_id_has_the_hash_of_its_text() -> None:
    made = make_document(SOURCE, "words", {"id": ""})
    assert isinstance(made, Document)
    assert made.id == hashlib.blake2b(b"words", digest_size=8).hexdigest()


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000"])
def test_nothing_but_blanks_is_empty_and_not_bad(text: str) -> None:
    made = make_document(SOURCE, text, {"id": "a"})
    assert isinstance(made, Rejected)
    assert (made.reason, made.id, made.num_bytes, made.problem) == ("empty", "a", len(text.encode()), "")


@pytest.mark.parametrize(
    ("row", "reason", "named"),
    [
        ({"key": 1, "body": "x"}, "missing_field", "text"),
        ({"text": "x"}, "missing_field", "key"),
        ({"text": ["x"], "key": 1}, "not_text", "list"),
    ],
    ids=["no text", "no id", "text is a list"],
)
def test_a_record_that_lacks_something_says_what(row: dict[str, object], reason: str, named: str) -> None:
    made = from_record(row, SOURCE, b"raw bytes")
    assert isinstance(made, Rejected)
    assert (made.reason, made.num_bytes, made.preview) == (reason, 9, "raw bytes")
    assert named in made.problem


def test_a_lone_surrogate_in_any_field_is_bad_encoding() -> None:
    for text, identifier in (("a\udcffb", "x"), ("fine", "\ud800")):
        made = make_document(SOURCE, text, {"id": identifier})
        assert isinstance(made, Rejected)
        assert made.reason == "bad_encoding"


def test_the_first_missing_column_is_named_with_those_that_are_there() -> None:
    assert missing_columns(["text", "key", "terms"], SOURCE) is None
    assert missing_columns(iter(["text", "terms"]), SOURCE) == "no column 'key'; columns present: text, terms"
    assert missing_columns(["text", "key"], SOURCE) is None  # of every file, only text and id are required
    assert missing_columns(["text", "key", "text"], SOURCE) == "2 columns are called 'text'; columns present: text, key, text"
