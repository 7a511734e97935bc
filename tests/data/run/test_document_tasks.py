"""Reading and cleaning a unit: what is kept, what is counted, and the keys for finding duplicates."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cpt_ray.data.dedup.exchange import read_partition
from cpt_ray.data.run.document_tasks import REFERENCE_BITS
from cpt_ray.data.run.units import UnitContext
from cpt_ray.records import Amount, RepeatedIds
from tests.data.conftest import document, settings
from tests.data.run.in_process import PARTITIONS, clean, documents, read, source_of


def context(tmp_path: Path, texts: dict[str, str], **changes: object) -> UnitContext:
    source = source_of(tmp_path, "law", texts)
    return UnitContext(folder=str(tmp_path / "out"), sources=(source,), prepare=settings(**changes))


def test_raw_units_hold_whole_documents_up_to_the_unit_size(tmp_path: Path) -> None:
    texts = {"a": "x" * 600, "b": "y" * 600, "c": "z" * 5000, "d": "w" * 100}
    made = context(tmp_path, texts, unit_bytes=1200)
    paths = [entry.path for report in read(made) for entry in report.outputs["raw"]]
    ids = [pq.read_table(made.root / path)["id"].to_pylist() for path in paths]
    assert [name for unit in ids for name in unit] == ["a", "b", "c", "d"]
    assert all(sum(len(texts[name]) for name in unit) <= 1200 or len(unit) == 1 for unit in ids)
    assert ids[-2:] == [["c"], ["d"]]  # larger than a unit, so alone in one


def test_ids_that_repeat_are_counted(tmp_path: Path) -> None:
    made = context(tmp_path, {"a": "one", "b": "two"})
    path = tmp_path / "law.jsonl"
    path.write_text(path.read_text() * 2)
    made_of = documents(tmp_path / "out", made.sources, made.prepare)
    assert made_of.pairs.repeated_ids == {"law": RepeatedIds(ids=2, documents=4)}


def test_reading_twice_gives_the_same_files(tmp_path: Path) -> None:
    made = context(tmp_path, {"a": "one", "b": "two"})
    elsewhere = made.model_copy(update={"folder": str(tmp_path / "elsewhere")})
    assert [report.outputs for report in read(made)] == [report.outputs for report in read(elsewhere)]


def test_a_cleaned_unit_counts_what_was_dropped_edited_and_in_which_language(tmp_path: Path) -> None:
    text = document("a")
    made = context(tmp_path, {"a": text + "  \r\n", "short": "too short"})
    _, (report,) = clean(made)
    (counts,) = report.reports
    assert counts.dropped == {"min_bytes": Amount(documents=1, bytes=9)}
    assert counts.kept == Amount(documents=1, bytes=len(text))
    assert counts.edited_bytes == 4
    assert report.languages == {"unknown": 1}
    table = pq.read_table(made.root / report.path("clean"))
    assert (table["id"].to_pylist(), table["text"].to_pylist(), table["bytes"].to_pylist()) == (["a"], [text], [len(text)])


def test_texts_that_differ_in_case_only_have_the_same_exact_key(tmp_path: Path) -> None:
    made = context(tmp_path, {"a": document("a"), "upper": document("a").upper(), "b": document("b")})
    _, (report,) = clean(made)
    exact = pq.read_table(made.root / report.path("clean"))["exact"].to_pylist()
    assert exact[0] == exact[1] != exact[2]


def test_keys_refer_to_unit_and_row_and_lie_in_the_partition_of_their_value(tmp_path: Path) -> None:
    made = context(tmp_path, {name: document(name) for name in "abcdefgh"}, unit_bytes=1000)
    tasks, reports = clean(made)
    assert len(tasks) > 1
    for task, report in zip(tasks, reports, strict=True):
        rows = pq.read_table(made.root / report.path("clean")).num_rows
        for partition in range(PARTITIONS):
            keys = read_partition([made.root / report.path("keys")], partition)
            assert set((keys["key"].to_numpy() % np.uint64(PARTITIONS)).tolist()) <= {partition}
            documents = keys["document"].to_numpy()
            assert set((documents >> np.uint64(REFERENCE_BITS)).tolist()) <= {task.number}
            assert all(row < rows for row in (documents & np.uint64(2**REFERENCE_BITS - 1)).tolist())
        assert len(np.load(made.root / report.path("sketches"))) == rows


@pytest.mark.parametrize(("scope", "meet"), [("global", True), ("source", False)])
def test_documents_of_two_sources_share_keys_unless_the_scope_is_the_source(tmp_path: Path, scope: str, meet: bool) -> None:
    sources = tuple(source_of(tmp_path, name, {name: document("same")}) for name in ("law", "news"))
    made = UnitContext(folder=str(tmp_path / "out"), sources=sources, prepare=settings(near_duplicates={"scope": scope}))
    _, reports = clean(made)
    law, news = (set(read_partition([made.root / report.path("keys")], None)["key"].to_pylist()) for report in reports)
    assert bool(law & news) is meet
