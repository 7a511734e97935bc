"""Documents as users of this field have them: one id for many, invisible characters, scripts without spaces.

Each runs through reading, cleaning, duplicate removal, the held-out draw and packing, without Ray.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.rows.shard_index import pieces_of_document, pieces_of_row
from cpt_ray.data.run.funnel import check_funnel
from cpt_ray.data.run.merge import drawn_ngrams, merge_drawn, shard_table
from cpt_ray.data.split import ContainmentIndex
from cpt_ray.evaluate.bits_per_byte import read_documents, score_documents
from cpt_ray.evaluate.per_item import format_scores, read_document_scores
from cpt_ray.model.attention.isolation import use_document_attention
from cpt_ray.model.head import install_loss_head
from cpt_ray.model.scoring import encode_document
from cpt_ray.records import ExamHit, ExamItem, RepeatedIds, ShardManifest, StageReport, sum_reports, write_items
from tests.data.run.in_process import Documents, documents, draw, pack
from tests.evaluate.tiny import SEPARATOR, build_model, build_tokenizer
from tests.integration.tiny_study import document, exam_items, question

pytestmark = [pytest.mark.accept(inputs=1), pytest.mark.accept(inputs=4)]

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
    packing, _, packed = pack(made, folder / "shards", tokenizer, held_out=context.root, exam_items=items)
    manifest = ShardManifest(
        format_version=4, sequence_length=64, vocabulary_size=1, token_dtype="uint16", separator_id=0, tokenizer_sha256="",
        shards=shard_table(packed), reports=(), task_pids={},
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
    assert found.made.pairs.repeated_ids == {"law": RepeatedIds(ids=40, documents=120)}

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


def hide(text: str, mark: str) -> str:
    """A mark inside every word of more than five letters."""
    return "\n".join(
        " ".join(word[:3] + mark + word[3:] if len(word) > 5 else word for word in line.split(" ")) for line in text.split("\n")
    )


def wide(text: str) -> str:
    """Full-width letters."""
    return "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text)


def with_hidden_leak_and_copy(mark: str) -> list[dict[str, str]]:
    changed = wide if mark == "wide" else lambda text: hide(text, mark)
    rows = [{"id": f"law_{n}", "text": document("law", n)} for n in range(120)]
    return [
        *rows,
        {"id": "plain_leak", "text": f"{document('law', 900)}\n{question(2)}"},
        {"id": "hidden_leak", "text": f"{document('law', 901)}\n{changed(question(3))}"},
        {"id": "hidden_copy_of_5", "text": changed(document("law", 5))},
    ]


SOFT_HYPHEN = "\u00ad"
MARKS = [SOFT_HYPHEN, "\u200b", "\u200d", "\u202e", "\u2060", "\ufeff", "\ufe0f", "\U000e0061", "\U000e0101"]


@pytest.mark.parametrize("mark", [*MARKS, "wide"], ids=lambda mark: mark if mark == "wide" else f"U+{ord(mark):04X}")
def test_a_leak_and_a_copy_with_invisible_characters_are_found(tmp_path: Path, tokenizer: Path, mark: str) -> None:
    found = prepared(tmp_path, tokenizer, with_hidden_leak_and_copy(mark), exam_items())
    assert found.counts("read") == (123, 123, {})
    assert found.counts("clean") == (123, 123, {})
    assert found.counts("near_duplicates") == (123, 122, {"exact_duplicate": 1})
    assert found.dropped("exact_duplicate") == ["hidden_copy_of_5"]
    assert {hit.document for hit in found.hits} | {line["id"] for line in found.held_out} >= {"plain_leak", "hidden_leak"}
    drawn = len(found.held_out)
    assert found.counts("held_out") == (122, 122 - drawn, {"held_out": drawn})
    leaks = {"plain_leak", "hidden_leak"} - {line["id"] for line in found.held_out}
    assert leaks
    assert found.counts("decontaminate") == (122 - drawn, 122 - drawn - len(leaks), {"exam_item": len(leaks)})
    removed = sum((Counter(unit.invisible) for unit in found.made.cleaned), Counter())
    assert (sum(removed.values()) > 30, len(removed)) == ((False, 0) if mark == "wide" else (True, 1))
    kept = [
        row["text"]
        for unit in found.made.cleaned
        for row in pq.read_table(found.made.context.root / unit.path("clean")).to_pylist()
    ]
    assert not any(character in text for text in kept for character in MARKS)


def test_they_hide_nothing_either_where_cleaning_leaves_them_in(tmp_path: Path, tokenizer: Path) -> None:
    clean = {"normalize": False, "remove_invisible": False, "rules": []}
    config = PrepareConfig.model_validate({**DEFAULTS.model_dump(), "clean": clean})
    found = prepared(tmp_path, tokenizer, with_hidden_leak_and_copy("\u00ad"), exam_items(), config)
    assert found.dropped("exact_duplicate") == ["hidden_copy_of_5"]
    assert {hit.document for hit in found.hits} | {line["id"] for line in found.held_out} >= {"plain_leak", "hidden_leak"}
    assert [unit.invisible for unit in found.made.cleaned] == [{}] * len(found.made.cleaned)


def test_a_held_out_document_is_found_in_training_text_behind_invisible_characters(tmp_path: Path, tokenizer: Path) -> None:
    rows = [{"id": f"law_{n}", "text": document("law", n)} for n in range(120)]
    # A whole document inside a much longer one is no near-duplicate of it, so that only containment finds it.
    for n in range(120):
        before = "\n".join(document("law", 1000 + 10 * n + k) for k in range(9))
        rows.append({"id": f"holds_{n}", "text": f"{before}\n{hide(document('law', n), SOFT_HYPHEN)}"})
    found = prepared(tmp_path, tokenizer, rows)
    assert found.counts("near_duplicates") == (240, 240, {})
    drawn = {line["id"] for line in found.held_out}
    inside = {f"holds_{name.removeprefix('law_')}" for name in drawn if name.startswith("law_")}
    assert len(inside) > 5
    assert set(found.dropped("held_out_overlap")) == inside - drawn


SCRIPTS = {
    "chinese": "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成"
    "会可主发年动同工也能下过子说产种面而方后多定行学法所民得经",
    "japanese": "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもや"
    "ゆよらりるれろわをんアイウエオカキクケコ法律国民人権",
    "thai": [chr(c) + m for c in range(0x0E01, 0x0E2F) for m in ("", "\u0e31", "\u0e34\u0e48")],
    "khmer": [chr(c) + m for c in range(0x1780, 0x17A3) for m in ("", "\u17b6", "\u17d2\u1793")],
}
ENDS = {"chinese": "\u3002", "japanese": "\u3002", "thai": "", "khmer": "\u17d4"}


def unspaced_text(script: str, number: object, lines: int, length: int = 60) -> str:
    draw = random.Random(f"{script} {number}")
    return "\n".join("".join(draw.choice(SCRIPTS[script]) for _ in range(length)) + ENDS[script] for _ in range(lines))


def with_six_copies(script: str) -> list[dict[str, str]]:
    """150 documents, and six copies of the first with one character changed."""
    rows = [{"id": f"{script}_{n}", "text": unspaced_text(script, n, 6 + n % 4)} for n in range(150)]
    copy, other = rows[0]["text"], SCRIPTS[script][0]
    return rows + [{"id": f"copy_of_0_{n}", "text": copy[: 20 + n] + other + copy[21 + n :]} for n in range(6)]


@pytest.mark.parametrize("script", list(SCRIPTS))
def test_documents_without_spaces_pass_the_default_rules_and_six_copies_are_found(
    tmp_path: Path, tokenizer: Path, script: str
) -> None:
    found = prepared(tmp_path, tokenizer, with_six_copies(script))
    assert found.counts("read") == (156, 156, {})
    assert found.counts("clean") == (156, 156, {})
    read, kept, dropped = found.counts("near_duplicates")
    assert (read, kept, sum(dropped.values())) == (156, 150, 6)
    assert sorted(found.dropped("near_duplicate") + found.dropped("exact_duplicate")) == [f"copy_of_0_{n}" for n in range(6)]
    drawn = len(found.held_out)
    assert found.counts("held_out") == (150, 150 - drawn, {"held_out": drawn})
    assert drawn > 10
    assert found.counts("tokenize")[1] == 150 - drawn


def test_mixed_documents_keep_their_words_and_their_copies_are_found(tmp_path: Path, tokenizer: Path) -> None:
    def mixed(number: int) -> str:
        return "\n".join(
            f"{document('law', number).splitlines()[k]} {unspaced_text('chinese', (number, k), 1, 30)}" for k in range(4)
        )

    rows = [{"id": f"mixed_{n}", "text": mixed(n)} for n in range(60)]
    rows += [{"id": f"copy_of_{n}", "text": mixed(n).replace("\u3002", " \uff0c", 1)} for n in range(6)]
    found = prepared(tmp_path, tokenizer, rows)
    assert found.counts("clean") == (66, 66, {})
    _, kept, dropped = found.counts("near_duplicates")
    assert (kept, sum(dropped.values())) == (60, 6)
    assert sorted(found.dropped("near_duplicate")) == [f"copy_of_{n}" for n in range(6)]


@pytest.mark.parametrize("script", list(SCRIPTS))
def test_an_exam_question_without_spaces_is_found_also_with_a_zero_width_space_in_it(
    tmp_path: Path, tokenizer: Path, script: str
) -> None:
    exam = [{"question": unspaced_text(script, ("exam", n), 1, 40), "choices": ["a", "b"], "answer": 0} for n in range(8)]
    rows = [{"id": f"{script}_{n}", "text": unspaced_text(script, n, 7)} for n in range(80)]
    for place in range(8):
        asked = exam[place]["question"] if place % 2 else "\u200b".join(exam[place]["question"])
        rows.append({"id": f"leaks_{place}", "text": f"{unspaced_text(script, ('leak', place), 5)}\n{asked}"})
    found = prepared(tmp_path, tokenizer, rows, exam)
    held = {line["id"] for line in found.held_out}
    expected = {place for place in range(8) if f"leaks_{place}" not in held}
    assert {place % 2 for place in expected} == {0, 1}
    assert {(hit.document, hit.item) for hit in found.hits} == {(f"leaks_{place}", str(place)) for place in expected}
    assert found.counts("clean") == (88, 88, {})
    trained = 88 - len(held)
    assert found.counts("decontaminate") == (trained, trained - len(expected), {"exam_item": len(expected)})
