"""Scores are found by what they depend on, and given to another run with the same content."""

from __future__ import annotations

from pathlib import Path

from cpt_ray.edges.storage import file_entry
from cpt_ray.evaluate.known import copy_scores, is_intact, known_scores, score_key
from cpt_ray.records import Artifact, EvalRecord, FileEntry
from tests.evaluate.tiny import make_run


def entry(path: str, sha256: str) -> FileEntry:
    return FileEntry(path=path, size_bytes=1, sha256=sha256)


REST = {"version": 3, "settings": {"context": 32}}
EXPORT = [entry("export/model.safetensors", "w"), entry("export/config.json", "c"), entry("export/README.md", "r")]


def test_a_key_covers_weights_and_settings_and_neither_the_card_nor_the_rest_of_the_run():
    key = score_key(EXPORT, "export/", REST)
    assert key == score_key([*EXPORT[:2], entry("export/README.md", "of another run")], "export/", REST)
    others = [entry("run.json", "x"), entry("trajectory/9/export/model.safetensors", "y")]
    assert key == score_key([*EXPORT, *others], "export/", REST)
    assert key == score_key([entry(f"trajectory/9/{one.path}", one.sha256) for one in EXPORT], "trajectory/9/export/", REST)
    assert key != score_key([entry("export/model.safetensors", "v"), *EXPORT[1:]], "export/", REST)
    assert key != score_key(EXPORT, "export/", {**REST, "version": 4})
    assert key != score_key(EXPORT, "export/", {**REST, "settings": {"context": 64}})


def write_scores(folder: Path, run: str, key: str, *, complete: bool = True) -> Path:
    there = folder / f"{run}-01234567"
    (there / "held_out").mkdir(parents=True)
    (there / "held_out" / "law-test.jsonl").write_text("{}")
    who = {"run": run, "model": "tiny", "arm": "legal", "seed": 0, "budget_tokens": 2000, "tokens_seen": 2001}
    record = EvalRecord(**who, held_out=(), exams=(), task_pid=7, wall_s=1.5, key=key)
    (there / EvalRecord.FILE).write_text(record.to_json())
    if complete:
        lines = file_entry(there, there / "held_out" / "law-test.jsonl")
        rest = {"inputs": {}, "settings": {}, "wall_s": 1, "created": "", "versions": {}}
        artifact = Artifact(stage="evaluate", name=run, fingerprint="f", files=(lines,), **rest)
        (there / Artifact.FILE).write_text(artifact.to_json())
    return there


def test_complete_scores_are_found_by_their_key(tmp_path):
    there = write_scores(tmp_path, "a", "k1")
    write_scores(tmp_path, "b", "k2", complete=False)
    write_scores(tmp_path, "c", "")  # of before there were keys
    (tmp_path / "d-01234567").mkdir()
    (tmp_path / "d-01234567" / Artifact.FILE).write_text("{")
    assert known_scores(tmp_path) == {"k1": there}
    assert known_scores(tmp_path / "none") == {}
    assert is_intact(there)
    (there / "held_out" / "law-test.jsonl").write_text("[]")
    assert not is_intact(there)


def test_a_run_gets_the_scores_under_its_own_name(tiny_folder, tmp_path):
    there = write_scores(tmp_path, "a", "k1")
    record = copy_scores(there, tmp_path / "new", make_run(tiny_folder, run="b"))
    assert record == EvalRecord.of(tmp_path / "new")
    assert (record.run, record.key, record.wall_s) == ("b", "k1", 1.5)
    assert record.tokens_seen == make_run(tiny_folder, run="b").tokens_seen
    assert (tmp_path / "new" / "held_out" / "law-test.jsonl").read_text() == "{}"
    assert not (tmp_path / "new" / Artifact.FILE).exists()  # the study commits it
