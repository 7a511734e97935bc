"""Identities are unique and readable; ids that repeat are counted."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.identity import Place, count_repeated_ids, document_identity, id_keys, place_of
from cpt_ray.data.read.documents import content_id
from cpt_ray.records import RepeatedIds
from tests.data.conftest import document, settings
from tests.data.run.in_process import Documents, documents

pytestmark = pytest.mark.accept(inputs=4)

ODD_IDS = [
    "same",
    "same",
    "Same",
    " same",
    "same ",
    "law/00000/0",
    "law/00000/3",
    "a\nb",
    "a\nb",
    "a/b",
    "",
    "",
    "é",
    "e\u0301",
]


def jsonl(folder: Path, name: str, ids: list[str]) -> SourceConfig:
    rows = [{"id": key, "text": document(f"{name} {number}")} for number, key in enumerate(ids)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = {"name": name, "role": "domain", "path": str(folder / f"{name}.jsonl"), "format": "jsonl", "id_field": "id"}
    return SourceConfig.model_validate(fields)


def named(made: Documents) -> list[tuple[str, str]]:
    tables = [pq.read_table(made.context.root / report.path("clean")) for report in made.cleaned]
    return [(row["identity"], row["id"]) for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("place", [Place("law", 3, 17), Place("a-b.c", 0, 0), Place("law", 123456, 10**9)])
def test_an_identity_names_where_its_document_was_read(place: Place) -> None:
    assert place_of(document_identity(*place)) == place


@pytest.mark.parametrize(
    "name", ["", "law_3", "law/3/17", "law/00003", "law/00003/", "/00003/17", "law/00003/1x", "law/٠٠٠٠٣/1"]
)
def test_other_texts_are_no_identity(name: str) -> None:
    assert place_of(name) is None


def test_documents_keep_apart_whatever_their_ids_are(tmp_path: Path) -> None:
    sources = [jsonl(tmp_path, "law", ODD_IDS), jsonl(tmp_path, "news", ["same", "only once"])]
    made = documents(tmp_path / "out", sources, settings(unit_bytes=2000))
    found = named(made)
    assert len(made.cleans) > 4
    assert len({identity for identity, _ in found}) == len(found) == len(ODD_IDS) + 2
    # An id is kept as it is written; an empty one is no id.
    assert [name for _, name in found][:10] == ODD_IDS[:10]
    assert "" not in {name for _, name in found}


def test_ids_that_repeat_are_counted_per_source_over_all_units(tmp_path: Path) -> None:
    sources = [jsonl(tmp_path, "law", ODD_IDS), jsonl(tmp_path, "news", ["same", "only once"])]
    for unit_bytes in (2000, 10**6):
        made = documents(tmp_path / str(unit_bytes), sources, settings(unit_bytes=unit_bytes))
        # "same" and "a\nb", twice each: ids are compared as they are written, within a source.
        assert made.pairs.repeated_ids == {"law": RepeatedIds(ids=2, documents=4)}


def test_ids_made_of_the_content_are_not_the_sources(tmp_path: Path) -> None:
    texts = ["one", "one", "two"]
    assert id_keys([(content_id(text), text) for text in texts], "law", place=0).num_rows == 0
    keys = id_keys([("a", text) for text in texts], "law", place=1)
    assert count_repeated_ids(keys, ["news", "law"]) == {"law": RepeatedIds(ids=1, documents=3)}
    assert count_repeated_ids(keys.slice(0, 1), ["news", "law"]) == {}
    assert count_repeated_ids(pa.table(keys.slice(0, 0)), ["news", "law"]) == {}
