"""Held-out documents are drawn, and the rest of a unit becomes rows."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cpt_ray.data.run.merge import drawn_ngrams
from cpt_ray.data.run.training_tasks import kept_documents
from cpt_ray.data.split import ContainmentIndex
from cpt_ray.edges import store
from cpt_ray.records import ExamItem, write_items
from tests.data.conftest import EXAM, LEAK, document, settings
from tests.data.run.in_process import Documents, documents, draw, pack, source_of
from tests.object_store import node

TEXTS = {f"law_{number}": document(f"law_{number}") for number in range(40)} | {
    "leak": f"{document('before')}\n{LEAK}\n{document('after')}",
    "twin_of_law_3": document("law_3") + " extra",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    folder = tmp_path_factory.mktemp("training")
    return documents(folder / "documents", [source_of(folder, "law", TEXTS)], settings(unit_bytes=8000))


@pytest.fixture
def held_out(made: Documents, tmp_path: Path) -> tuple[Path, set[str]]:
    """A folder with the containment index of the drawn documents, and their ids."""
    context, reports = draw(made, tmp_path / "held_out")
    ContainmentIndex.build(drawn_ngrams(reports, context.root)).save(context.root / "containment")
    lines = [line for report in reports for line in (context.root / report.path("documents")).read_text().splitlines()]
    return context.root, {json.loads(line)["id"] for line in lines}


def test_documents_that_a_duplicate_stands_for_are_left_out(made: Documents) -> None:
    context = made.context.model_copy(update={"inputs": {"documents": made.context.folder}})
    ids = [row["id"] for task in made.draw_tasks() for row in kept_documents(task, context)]
    assert ids == [name for name in TEXTS if name != "twin_of_law_3"]


def test_each_drawn_document_is_where_the_table_says(made: Documents, tmp_path: Path) -> None:
    context, reports = draw(made, tmp_path)
    drawn = 0
    for report in reports:
        data = (context.root / report.path("documents")).read_bytes()
        for row in pq.read_table(context.root / report.path("table")).to_pylist():
            line = json.loads(data[row["start"] : row["start"] + row["size"]])
            assert line["text"] == TEXTS[line["id"]]
            assert row["bytes"] == len(line["text"])
            assert row["part"] in ("validation", "test")
            drawn += 1
    assert drawn == sum(report.reports[0].dropped["held_out"].documents for report in reports if report.reports[0].dropped)
    assert 0 < drawn < len(TEXTS) / 2


def test_drawing_again_draws_the_same(made: Documents, tmp_path: Path) -> None:
    first, again = (draw(made, tmp_path / name)[1] for name in ("first", "again"))
    assert [report.outputs for report in first] == [report.outputs for report in again]


def test_rows_hold_what_is_neither_held_out_nor_an_exam_and_the_counts_balance(
    made: Documents, held_out: tuple[Path, set[str]], tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder, drawn = held_out
    items = tmp_path / "items.jsonl"
    items.write_text(write_items([ExamItem.model_validate(EXAM)]))
    context, _, reports = pack(made, tmp_path / "shards", tokenizer_folder, held_out=folder, exam_items=items)
    packed = {
        name
        for report in reports
        for entry in report.outputs.get("index", ())
        for name in pq.read_table(context.root / entry.path)["document_id"].to_pylist()
    }
    assert packed == {*TEXTS} - drawn - {"leak", "twin_of_law_3"}
    for report in reports:
        counts = report.counts
        assert counts["rows"] * 128 == counts["tokens"] + counts["padding"]
        assert counts["tokens"] == counts["tokenizer_tokens"] + counts["separator_tokens"]
        assert counts["loss_tokens"] == counts["tokens"] - counts["segments"]
        held, decontaminated, tokenized = report.reports
        assert (held.kept, decontaminated.kept) == (decontaminated.input, tokenized.input)
    hits = [line for report in reports for entry in report.outputs["hits"] for line in (context.root / entry.path).open()]
    if "leak" not in drawn:
        assert [json.loads(line)["document"] for line in hits] == ["leak"]


def test_a_unit_of_which_nothing_is_left_has_no_shard(
    made: Documents, held_out: tuple[Path, set[str]], tokenizer_folder: Path, tmp_path: Path
) -> None:
    rules = made.context.prepare.model_copy(
        update={"token_rules": made.context.prepare.token_rules.model_copy(update={"min_bytes_per_token": 1e6})}
    )
    nothing = Documents(
        made.context.model_copy(update={"prepare": rules}), made.cleans, made.cleaned, made.decided, made.components, made.pairs
    )
    _, _, reports = pack(nothing, tmp_path / "shards", tokenizer_folder, held_out=held_out[0])
    assert {report.counts["rows"] for report in reports} == {0}
    assert not any(report.outputs.get("shard") for report in reports)
    assert {report.reports[-1].kept.documents for report in reports} == {0}


LOADS = """
import json, sys, time
from pathlib import Path
from cpt_ray.data.run.training_tasks import load_containment
begun = Path(sys.argv[2])
(begun / sys.argv[3]).touch()
while not (begun / "go").exists():
    time.sleep(0.001)
load_containment(sys.argv[1])
maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(".npy")]
print(json.dumps({Path(entry[-1]).name: entry[4] for entry in maps}))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux says what is mapped")
def test_processes_of_a_node_map_one_copy_of_the_index_from_a_bucket(held_out, bucket, tmp_path) -> None:
    with node(tmp_path / "driver"):
        there = store.mirror_of("s3://studies/held_out/x") / "containment"
        shutil.copytree(held_out[0] / "containment", there)
        store.push_folder(there)
    begun = tmp_path / "begun"
    begun.mkdir()
    with node(tmp_path / "node"):
        bucket.seen.clear()
        command = [sys.executable, "-c", LOADS, str(store.here(there.parent)), str(begun)]
        processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("one", "other")]
        while len(list(begun.iterdir())) < 2:
            assert all(one.poll() is None for one in processes)
        (begun / "go").touch()
        one, other = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    assert one == other
    assert {"hashes.npy", "owners.npy", "slots.npy"} <= one.keys()
    assert [path.count("/hashes.npy") for method, path in bucket.seen if method == "GET"].count(1) == 1
