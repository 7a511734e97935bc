"""Documents as users of this field have them: one id for many, invisible characters, scripts without spaces.

Each runs through reading, cleaning, duplicate removal, the held-out draw and packing, without Ray.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.rows.shard_index import pieces_of_document, pieces_of_row
from cpt_ray.data.run.funnel import check_funnel
from cpt_ray.data.run.merge import drawn_ngrams, merge_drawn, merge_repeated_ids, shard_table
from cpt_ray.data.split import ContainmentIndex
from cpt_ray.evaluate.bits_per_byte import read_documents, score_documents
from cpt_ray.evaluate.per_item import format_scores, read_document_scores
from cpt_ray.model.attention.isolation import use_document_attention
from cpt_ray.model.head import install_loss_head
from cpt_ray.model.scoring import encode_document
from cpt_ray.records import ExamHit, ExamItem, RepeatedIds, ShardManifest, StageReport, sum_reports, write_items
from tests.data.run.in_process import Documents, documents, draw, pack
from tests.evaluate.tiny import SEPARATOR, build_model, build_tokenizer
from tests.integration.tiny_study import document

DEFAULTS = PrepareConfig.model_validate(
    {"unit_bytes": 16_000, "held_out": {"share": 0.2}, "pack": {"sequence_length": 64}, "keep_dropped": True}
)


@dataclass
class Prepared:
    """A source from its records to its shards, in process."""

    made: Documents
    held_out: list[dict[str, str]]
    shards: tuple[Path, ShardManifest]
    hits: list[ExamHit]
    reports: dict[str, StageReport]

    def counts(self, stage: str) -> tuple[int, int, dict[str, int]]:
        """Documents in, kept, and dropped by reason."""
        report = self.reports[stage]
        return report.input.documents, report.kept.documents, {name: n.documents for name, n in report.dropped.items()}

    def dropped(self, reason: str) -> list[str]:
        """Ids of the documents that were dropped for a reason, in order."""
        roots = (self.made.context.root, self.shards[0])
        rows = [
            row
            for root in roots
            for path in sorted(root.glob("dropped/*/*.parquet"))
            for row in pq.read_table(path).to_pylist()
        ]
        return [row["id"] for row in rows if row["reason"] == reason]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(folder)
    return folder


def prepared(
    folder: Path,
    tokenizer: Path,
    rows: list[dict[str, Any]],
    exam: list[dict[str, Any]] | None = None,
    config: PrepareConfig = DEFAULTS,
) -> Prepared:
    """Prepare JSON lines with the default rules; the exam is scanned for."""
    (folder / "law.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = {"name": "law", "role": "domain", "path": str(folder / "law.jsonl"), "format": "jsonl", "id_field": "id"}
    source = SourceConfig.model_validate(fields)
    made = documents(folder / "documents", [source], config)
    context, drawn = draw(made, folder / "held_out")
    sets = merge_drawn(drawn, source, context.root)
    ContainmentIndex.build(drawn_ngrams(drawn, context.root)).save(context.root / "containment")
    items = folder / "items.jsonl"
    items.write_text(write_items(ExamItem(task="tiny", id=str(n), **item) for n, item in enumerate(exam or [])))
    packing, tasks, packed = pack(made, folder / "shards", tokenizer, held_out=context.root, exam_items=items)
    manifest = ShardManifest(
        format_version=4, sequence_length=64, vocabulary_size=1, token_dtype="uint16", separator_id=0, tokenizer_sha256="",
        shards=shard_table(tasks, packed), reports=(), task_pids={},
    )  # fmt: skip
    reports = [report for unit in (*made.read, *made.cleaned, *made.decided, *packed) for report in unit.reports]
    return Prepared(
        made=made,
        held_out=[json.loads(line) for entry in sets for line in (context.root / entry.path).read_text().splitlines()],
        shards=(packing.root, manifest),
        hits=[
            ExamHit.from_json(line)
            for unit in packed
            for entry in unit.outputs["hits"]
            for line in (packing.root / entry.path).read_text().splitlines()
        ],
        reports={report.stage: report for report in check_funnel(sum_reports(reports), ["law"])},
    )


def test_three_documents_of_one_id_are_kept_apart_everywhere(tmp_path: Path, tokenizer: Path) -> None:
    rows = [{"id": f"law_{n // 3}", "text": document("law", n)} for n in range(120)]
    found = prepared(tmp_path, tokenizer, rows)
    assert found.counts("read") == (120, 120, {})
    assert found.counts("clean") == (120, 120, {})
    assert found.counts("near_duplicates") == (120, 120, {})
    assert found.counts("held_out") == (120, 120 - len(found.held_out), {"held_out": len(found.held_out)})
    repeated = merge_repeated_ids(report.repeated_ids for report in found.made.pairs)
    assert repeated == {"law": RepeatedIds(ids=40, documents=120)}

    # Shard index and trace: every document once, by identity; an id names all documents that have it.
    folder, manifest = found.shards
    packed = {
        piece.identity: piece.document_id
        for row in range(manifest.rows("law"))
        for piece in pieces_of_row(folder, manifest, "law", row)
    }
    held_out = {line["identity"]: line["id"] for line in found.held_out}
    assert not packed.keys() & held_out.keys()
    assert len(packed) + len(held_out) == 120
    for name in {f"law_{n}" for n in range(40)}:
        assert {piece.identity for piece in pieces_of_document(folder, manifest, name)} == {
            identity for identity, label in packed.items() if label == name
        }
    for identity in packed:
        assert {piece.identity for piece in pieces_of_document(folder, manifest, identity)} == {identity}


def test_the_scores_of_documents_with_one_id_are_kept_apart(tmp_path: Path) -> None:
    lines = [{"identity": f"law/00000/{n}", "id": "gpl-2", "text": document("law", n)} for n in range(5)]
    (tmp_path / "law-test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    engine = build_tokenizer()
    model = build_model(len(engine))
    use_document_attention(model)
    install_loss_head(model)
    encoded = [
        encode_document(engine, key, text, document_tokens=96) for key, text in read_documents(tmp_path / "law-test.jsonl", 10)
    ]
    prefix = engine.convert_tokens_to_ids(SEPARATOR)
    scores = score_documents(model.eval(), encoded, prefix=prefix, context=64, batch_tokens=512)
    (tmp_path / "scores.jsonl").write_text(format_scores(scores))
    again = read_document_scores(tmp_path / "scores.jsonl")
    assert [(score.identity, score.id) for score in again] == [(line["identity"], "gpl-2") for line in lines]
    assert len({score.nats for score in again}) == 5
    assert all(math.isfinite(score.nats) for score in again)
