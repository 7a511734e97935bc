"""An exam added after packing is searched for in the packed documents only."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.data.run.late_scan import LateScanUnit, late_scan_unit
from cpt_ray.records import ExamItem, write_items
from tests.data.conftest import document
from tests.data.run.in_process import documents, source_of


def test_only_packed_documents_are_scanned_and_all_of_their_text(tmp_path: Path) -> None:
    texts = {name: document(name) for name in ("packed", "left_out", "other")}
    made = documents(tmp_path / "documents", [source_of(tmp_path, "law", texts)])
    questions = [
        ExamItem(task="late", id=name, question=" ".join(texts[name].split()[-25:])) for name in ("packed", "left_out")
    ]
    (tmp_path / "items.jsonl").write_text(write_items(questions))
    (tmp_path / "shards").mkdir()
    # A long document has one row per piece.
    pq.write_table(pa.table({"identity": ["law/00000/0", "law/00000/2", "law/00000/0"]}), tmp_path / "shards" / "index.parquet")
    inputs = {"documents": made.context.folder, "shards": str(tmp_path / "shards")}
    context = made.context.model_copy(update={"folder": str(tmp_path / "late"), "inputs": inputs})
    (task,) = made.draw_tasks()
    late = LateScanUnit(
        **task.model_dump(exclude={"share", "floor"}), index="index.parquet", exam_items=str(tmp_path / "items.jsonl")
    )
    (entry,) = late_scan_unit(late, context).outputs["hits"]
    (hit,) = [json.loads(line) for line in (context.root / entry.path).read_text().splitlines()]
    assert (hit["item"], hit["document"], hit["source"], hit["words"]) == ("packed", "packed", "law", 25)


def test_a_unit_without_hits_writes_no_file(tmp_path: Path) -> None:
    made = documents(tmp_path / "documents", [source_of(tmp_path, "law", {"a": document("a")})])
    (tmp_path / "items.jsonl").write_text(write_items([ExamItem(task="late", id="1", question=document("elsewhere"))]))
    pq.write_table(pa.table({"identity": ["law/00000/0"]}), tmp_path / "index.parquet")
    inputs = {"documents": made.context.folder, "shards": str(tmp_path)}
    context = made.context.model_copy(update={"folder": str(tmp_path / "late"), "inputs": inputs})
    (task,) = made.draw_tasks()
    late = LateScanUnit(
        **task.model_dump(exclude={"share", "floor"}), index="index.parquet", exam_items=str(tmp_path / "items.jsonl")
    )
    assert late_scan_unit(late, context).outputs["hits"] == ()
    assert not (context.root / "hits").exists()
