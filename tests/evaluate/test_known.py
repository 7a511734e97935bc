"""Parts that were scored are kept under their key, and used only as they were written."""

from __future__ import annotations

from cpt_ray.evaluate.known import PartKey, keep_part, known_part, take_part
from cpt_ray.records import KnownPart, ScoredTask

KEY = PartKey("k1", {"exam": "quiz", "export": "e"})
TASK = ScoredTask(task="quiz", items_path="exams/quiz.jsonl", few_shot=2, chance=0.5)


def keep(tmp_path):
    (tmp_path / "a/exams").mkdir(parents=True)
    (tmp_path / "a/exams/quiz.jsonl").write_text("one\n")
    return keep_part(tmp_path / "scored", KEY, tmp_path / "a", ["exams/quiz.jsonl"], [TASK])


def test_a_part_is_found_by_its_key_and_its_files_are_taken(tmp_path):
    kept = keep(tmp_path)
    found = known_part(tmp_path / "scored", "k1")
    assert found == kept
    assert (found.tasks, found.depends_on) == ((TASK,), {"exam": "quiz", "export": "e"})
    take_part(tmp_path / "scored", found, tmp_path / "b")
    assert (tmp_path / "b/exams/quiz.jsonl").read_text() == "one\n"
    assert known_part(tmp_path / "scored", "k2") is None
    assert known_part(tmp_path / "nowhere", "k1") is None


def test_a_part_that_was_edited_cut_or_left_unfinished_is_not_used(tmp_path):
    keep(tmp_path)
    file, record = tmp_path / "scored/k1/exams/quiz.jsonl", tmp_path / "scored/k1" / KnownPart.FILE
    file.write_text("two\n")
    assert known_part(tmp_path / "scored", "k1") is None
    file.write_text("one\n")
    assert known_part(tmp_path / "scored", "k1") is not None
    written = record.read_text()
    record.write_text(written[:-20])
    assert known_part(tmp_path / "scored", "k1") is None
    record.write_text(written.replace('"k1"', '"k2"'))  # copied by hand
    assert known_part(tmp_path / "scored", "k1") is None
    record.write_text(written)
    file.unlink()
    assert known_part(tmp_path / "scored", "k1") is None
