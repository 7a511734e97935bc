"""From the files of units to the files of an artifact, in an order independent of which unit finished first."""

import json
from pathlib import Path

import pytest

from cpt_ray.data.identity import place_of
from cpt_ray.data.run.merge import drawn_ngrams, merge_drawn, unit_files, write_exam_scan
from cpt_ray.data.run.reports import UnitReports
from cpt_ray.data.run.training_tasks import write_hits
from cpt_ray.data.run.units import UnitContext, UnitTask, finish_unit
from cpt_ray.records import ExamHit, ExamItem, ExamScan, read_hits, write_items
from tests.data.conftest import document, settings
from tests.data.run.in_process import Documents, documents, draw, source_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    folder = tmp_path_factory.mktemp("merge")
    texts = {f"law_{number}": document(f"law_{number}") for number in range(40)}
    return documents(folder / "documents", [source_of(folder, "law", texts)], settings(unit_bytes=8000))


def test_a_clean_unit_is_found_with_its_verdicts(made: Documents) -> None:
    tasks = made.draw_tasks()[1::-1]
    expected = [task.model_dump(exclude={"share", "floor"}) for task in tasks]
    units = [task.unit for task in tasks]
    assert list(unit_files(made.context.root, units)) == expected
    # Without the lists that a stage leaves, the reports of the units say it.
    for stage in ("clean", "near_duplicates"):
        (made.context.root / "units" / f"{stage}.arrow").rename(made.context.root / f"{stage}.arrow")
    assert list(unit_files(made.context.root, units)) == expected


def test_held_out_sets_are_the_same_however_the_documents_were_spread_over_units(made: Documents, tmp_path: Path) -> None:
    texts = {
        json.loads(line)["id"]: json.loads(line)["text"]
        for line in Path(made.context.sources[0].path[0]).read_text().splitlines()
    }
    (tmp_path / "in").mkdir()
    other = documents(tmp_path / "documents", [source_of(tmp_path / "in", "law", texts)], settings(unit_bytes=50_000))
    assert len(other.cleans) < len(made.cleans)
    sets = []
    for name, documents_made in (("many", made), ("few", other)):
        context, drawn = draw(documents_made, tmp_path / name)
        merged = merge_drawn(drawn, context.sources[0], context.root)
        lines = [[json.loads(line) for line in (context.root / entry.path).read_text().splitlines()] for entry in merged]
        # An identity names the unit in which a document was read; the draw and the order do not depend on it.
        assert all(place_of(line.pop("identity")) for of_set in lines for line in of_set)
        sets.append(list(zip(merged, lines, strict=True)))
    assert sets[0] == sets[1]
    for entry, found in sets[0]:
        assert entry.documents == len(found)
        assert entry.bytes == sum(len(line["text"].encode()) for line in found)


def test_there_is_an_entry_of_n_grams_for_each_held_out_document(made: Documents, tmp_path: Path) -> None:
    context, drawn = draw(made, tmp_path)
    merged = merge_drawn(drawn, context.sources[0], context.root)
    assert len(list(drawn_ngrams(drawn, context.root))) == sum(entry.documents for entry in merged)


def test_hits_are_gathered_in_the_order_of_the_units_and_counted_by_task(tmp_path: Path) -> None:
    context = UnitContext(folder=str(tmp_path), sources=(), prepare=settings())
    question = document("a question")
    items = [ExamItem(task=task, id="1", question=question) for task in ("bar", "tax")]
    (tmp_path / "items.jsonl").write_text(write_items(items))

    def hit(task: str, name: str) -> ExamHit:
        fields = {"source": "law", "words": 80, "ratio": 1.0, "matched": "words", "part": "question"}
        return ExamHit.model_validate(
            {"task": task, "item": "1", "identity": f"law/00000/{name}", "document": "same", **fields}
        )

    reports, tasks = [], []
    for number, hits in enumerate(([hit("tax", "z")], [], [hit("tax", "a"), hit("tax", "b")])):
        task = UnitTask(unit=f"law-{number:05d}", source="law")
        tasks.append(task)
        reports.append(finish_unit(task, context, "pack", {"hits": write_hits(task, context, hits)}))
    scanned = UnitReports.of("pack", tasks, context, reversed(reports))
    write_exam_scan(scanned, tmp_path, tmp_path / "items.jsonl", context.prepare, late=True)
    assert [found.identity.rsplit("/")[-1] for found in read_hits(tmp_path)] == ["z", "a", "b"]
    scans = {scan.task: scan for scan in ExamScan.of(tmp_path).tasks}
    assert {name: (scan.items_found, scan.documents_found, scan.late) for name, scan in scans.items()} == {
        "bar": (0, 0, True), "tax": (1, 3, True),
    }  # fmt: skip


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\r"])
def test_a_hit_may_name_a_document_with_any_line_separator(tmp_path: Path, separator: str) -> None:
    context = UnitContext(folder=str(tmp_path), sources=(), prepare=settings())
    (tmp_path / "items.jsonl").write_text(write_items([ExamItem(task="bar", id="1", question=document("a question"))]))
    fields = {"task": "bar", "item": "1", "part": "question", "source": "law", "words": 80, "ratio": 1.0}
    named = {"identity": "law/00000/0", "document": f"a{separator}b", "matched": f"one{separator}two"}
    hit = ExamHit.model_validate({**fields, **named})
    task = UnitTask(unit="law-00000", source="law")
    report = finish_unit(task, context, "pack", {"hits": write_hits(task, context, [hit, hit])})
    scanned = UnitReports.of("pack", [task], context, [report])
    write_exam_scan(scanned, tmp_path, tmp_path / "items.jsonl", context.prepare)
    assert read_hits(tmp_path) == [hit, hit]
    assert ExamScan.of(tmp_path).tasks[0].documents_found == 1


def test_without_exams_the_scan_is_empty_and_there(tmp_path: Path) -> None:
    context = UnitContext(folder=str(tmp_path), sources=(), prepare=settings())
    write_exam_scan(UnitReports.of("pack", [], context, []), tmp_path, None, settings())
    assert ExamScan.of(tmp_path).tasks == ()
    assert read_hits(tmp_path) == []
