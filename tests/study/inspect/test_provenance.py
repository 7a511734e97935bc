"""The raw file that a document came from."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.run.units import UnitContext
from cpt_ray.records import DocumentKey
from cpt_ray.study.inspect.provenance import find_files
from tests.data.conftest import settings
from tests.data.run.in_process import read

UNIT_BYTES = 3000


@pytest.fixture
def source(tmp_path: Path) -> SourceConfig:
    """Three files; the id `twice` is in the first two, and the second begins with a line that is no document."""
    for name, ids in {"a": ["a_1", "twice"], "b": ["", "twice", "b_1"], "c": ["c_1"]}.items():
        rows = [json.dumps({"id": key, "text": f"{key} " * 150 if key else ""}) + "\n" for key in ids]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    fields = {"name": "law", "role": "domain", "path": f"{tmp_path}/*.jsonl", "format": "jsonl", "id_field": "id"}
    return SourceConfig.model_validate(fields)


def keys_of(source: SourceConfig, folder: Path, unit_bytes: int) -> list[DocumentKey]:
    context = UnitContext(folder=str(folder), sources=(source,), prepare=settings(unit_bytes=unit_bytes))
    tables = [pq.read_table(context.root / entry.path) for report in read(context) for entry in report.outputs["raw"]]
    return [DocumentKey(row["identity"], row["id"]) for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("unit_bytes", [1000, UNIT_BYTES, 10**6])
def test_each_document_is_found_in_its_own_file_also_if_another_has_its_id(
    source: SourceConfig, tmp_path: Path, unit_bytes: int
) -> None:
    keys = keys_of(source, tmp_path / "out", unit_bytes)
    assert [key.id for key in keys] == ["a_1", "twice", "twice", "b_1", "c_1"]
    assert len({key.identity for key in keys}) == 5
    found = find_files(source, settings(unit_bytes=unit_bytes), keys)
    assert [Path(found[key.identity]).stem for key in keys] == ["a", "a", "b", "b", "c"]


def test_a_place_that_holds_another_document_by_now_is_not_named(source: SourceConfig, tmp_path: Path) -> None:
    keys = keys_of(source, tmp_path / "out", UNIT_BYTES)
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "other", "text": "other " * 150}) + "\n")
    gone = [DocumentKey("law/00099/0", "a_1"), DocumentKey("news/00000/0", "a_1"), DocumentKey("a_1", "a_1")]
    found = find_files(source, settings(unit_bytes=UNIT_BYTES), [*keys, *gone])
    assert set(found) == {key.identity for key in keys if key.id != "c_1"}
