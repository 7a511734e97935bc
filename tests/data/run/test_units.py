from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cpt_ray.data.run.units import (
    Samples,
    Tally,
    UnitContext,
    UnitTask,
    finish_unit,
    finished_unit,
    merge_samples,
    unit_report,
    write_content,
    write_dropped,
)
from cpt_ray.errors import ArtifactError, DataError
from cpt_ray.records import DocumentKey, UnitFacts
from tests.data.conftest import settings

TASK = UnitTask(unit="law-00000", source="law")


def context(folder: Path) -> UnitContext:
    return UnitContext(folder=str(folder), sources=(), prepare=settings())


def test_a_file_is_named_by_its_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    first = write_content(tmp_path, "raw/a", ".txt", lambda path: path.write_text("x") and None)
    again = write_content(tmp_path, "raw/a", ".txt", lambda path: path.write_text("x") and None)
    other = write_content(tmp_path, "raw/a", ".txt", lambda path: path.write_text("y") and None)
    assert first == again != other
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted(Path(e.path).name for e in (first, other))


def test_a_finished_unit_is_known_again_until_its_task_or_files_change(tmp_path: Path) -> None:
    entry = write_content(tmp_path, "raw/a", ".txt", lambda path: path.write_text("x") and None)
    assert finished_unit(TASK, context(tmp_path), "read") is None
    report = finish_unit(TASK, context(tmp_path), "read", {"raw": entry})
    assert report.path("raw") == entry.path
    assert finished_unit(TASK, context(tmp_path), "read") == report == unit_report(tmp_path, "read", TASK.unit)
    assert finished_unit(TASK.model_copy(update={"source": "news"}), context(tmp_path), "read") is None
    changed = context(tmp_path).model_copy(update={"prepare": settings(seed=1)})
    assert finished_unit(TASK, changed, "read") is None
    (tmp_path / entry.path).unlink()
    assert finished_unit(TASK, context(tmp_path), "read") is None


def test_a_torn_report_is_no_report(tmp_path: Path) -> None:
    finish_unit(TASK, context(tmp_path), "read", {})
    (tmp_path / "units/read/law-00000.json").write_text('{"unit"')
    assert finished_unit(TASK, context(tmp_path), "read") is None
    with pytest.raises(ArtifactError, match="unit law-00000 of stage read has no readable report") as caught:
        unit_report(tmp_path, "read", TASK.unit)
    assert "re-run the same command" in caught.value.fix


def test_a_tally_that_does_not_add_up_is_never_reported(tmp_path: Path) -> None:
    tally = Tally("clean", "law")
    tally.keep(10, edited_to=8)
    tally.drop("symbols", 5)
    report = tally.report()
    assert (report.input.bytes, report.kept.bytes, report.edited_bytes) == (15, 8, 2)
    broken = report.model_copy(update={"edited_bytes": 0})
    with pytest.raises(DataError, match="lost bytes: 15 in, 8 kept, 5 dropped, 0 edited"):
        finish_unit(TASK, context(tmp_path), "clean", {}, UnitFacts(reports=(broken,)))


def test_the_sample_does_not_depend_on_the_order_or_the_units() -> None:
    whole = Samples("clean", "law", settings())
    halves = [Samples("clean", "law", settings()), Samples("clean", "law", settings())]
    for number in range(20):
        whole.add("symbols", DocumentKey(f"law/00000/{number}", "same"), f"text {number} " * 50)
        halves[number % 2].add("symbols", DocumentKey(f"law/00000/{number}", "same"), f"text {number} " * 50)
    merged = merge_samples([*halves[1].records(), *halves[0].records()], settings())
    assert list(merged) == whole.records()
    assert len({sample["identity"] for sample in merged}) == len({sample["text"] for sample in merged}) == 3
    assert len(merged[0]["text"]) == 200


def test_every_dropped_document_is_written_where_the_study_asks_for_it(tmp_path: Path) -> None:
    kept = UnitContext(folder=str(tmp_path), sources=(), prepare=settings(keep_dropped=True))
    clean, late = (Samples(stage, "law", kept.prepare) for stage in ("clean", "decontaminate"))
    for number in range(5):
        clean.add("symbols", DocumentKey(f"law/00000/{number}", f"d{number}"), "tëxt")
    late.add("exam_item", DocumentKey("law/00000/9", "e1"), "a question")
    (entry,) = write_dropped(TASK, kept, clean, late)
    rows = pq.read_table(tmp_path / entry.path).to_pylist()
    named = {"identity": "law/00000/0", "id": "d0"}
    assert rows[0] == {"stage": "clean", "source": "law", "reason": "symbols", **named, "bytes": 5, "text": "tëxt"}
    assert [(row["stage"], row["id"]) for row in rows] == [*(("clean", f"d{n}") for n in range(5)), ("decontaminate", "e1")]
    silent = Samples("clean", "law", settings())
    silent.add("symbols", DocumentKey("law/00000/0", "d0"), "text")
    assert write_dropped(TASK, context(tmp_path), silent) == []
