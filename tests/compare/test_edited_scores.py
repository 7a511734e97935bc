"""Score files that are not as scoring wrote them are refused; an exam that failed is left out."""

from __future__ import annotations

import json

import pytest

from cpt_ray.compare.deltas import cell_deltas
from cpt_ray.edges.storage import file_entry
from cpt_ray.errors import ArtifactError, DataError
from cpt_ray.records import Artifact, EvalRecord, FailedScore
from tests.compare.conftest import CONFIG
from tests.compare.test_deltas import cell


@pytest.mark.accept(answer=2)
@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda lines: [lines[0].replace('"bytes": 100', '"bytes": 101'), *lines[1:]], "11801 bytes, but 11800 in evaluation"),
        (lambda lines: lines[:-1], "39 documents, but 40 in evaluation.json"),
        (lambda lines: [json.dumps({**json.loads(lines[0]), "nats": 1.0}), *lines[1:]], r" nats, but .* in evaluation\.json"),
    ],
)
def test_a_score_file_that_was_edited_or_cut_is_refused(laboratory, edit, says):
    base, run = laboratory.add(), laboratory.add("legal", 100)
    path = laboratory.folders[run.run] / "held_out/law-test.jsonl"
    path.write_text("".join(f"{line}\n" for line in edit(path.read_text().splitlines())))
    with pytest.raises(DataError, match=f"law-test.jsonl: .*{says}") as refused:
        cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG)
    assert refused.value.fix.startswith("a score file was edited or cut: delete the evaluation's folder")


@pytest.mark.accept(answer=2)
@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda lines: [lines[0].replace('"accuracy": 1.0', '"accuracy": 0.0'), *lines[1:]], "9 correct items, but 10 in eval"),
        (lambda lines: lines[:-1], "39 items, but 40 in evaluation.json"),
    ],
)
def test_exam_scores_that_were_edited_or_cut_are_refused(laboratory, edit, says):
    base, run = laboratory.add(right=10), laboratory.add("legal", 100, right=10)
    path = laboratory.folders[run.run] / "exams/smoke.jsonl"
    path.write_text("".join(f"{line}\n" for line in edit(path.read_text().splitlines())))
    with pytest.raises(DataError, match=f"smoke.jsonl: {says}") as refused:
        cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG)
    assert refused.value.fix.startswith("a score file was edited or cut: delete the evaluation's folder")


def listed(laboratory, record):
    """Turn a model's scores into an artifact, which lists its files."""
    folder = laboratory.folders[record.run]
    (folder / EvalRecord.FILE).write_text(record.to_json())
    files = tuple(file_entry(folder, path) for path in sorted(folder.rglob("*.json*")))
    rest = {"inputs": {}, "settings": {}, "wall_s": 1, "created": "", "versions": {}}
    (folder / Artifact.FILE).write_text(
        Artifact(stage="evaluate", name=record.run, fingerprint="f", files=files, **rest).to_json()
    )


@pytest.mark.accept(answer=2)
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        # The sums stay those of the record: only the hash tells.
        ("exams/smoke.jsonl", '"log_p": [-1.0, -1.0, -1.0, -1.0]', '"log_p": [-2.0, -1.0, -1.0, -1.0]'),
        ("held_out/law-test.jsonl", '"tokens": 25', '"tokens": 26'),
        ("evaluation.json", '"label": "', '"label": "not '),
    ],
)
def test_a_file_that_is_not_the_one_that_scoring_wrote_is_refused(laboratory, name, old, new):
    base, run = laboratory.add(right=10), laboratory.add("legal", 100, right=10)
    for record in (base, run):
        listed(laboratory, record)
    assert cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG).overall
    path = laboratory.folders[run.run] / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ArtifactError, match=f"{name}: not the file that scoring wrote") as refused:
        cell_deltas(cell(laboratory, run), cell(laboratory, base), CONFIG)
    assert refused.value.fix.startswith("a score file was edited or cut: delete the evaluation's folder")


def test_an_exam_that_failed_on_one_side_or_one_seed_is_left_out_and_the_rest_is_compared(laboratory):
    failed = FailedScore(run="-", task="smoke", reason="no data", fix="fetch it")
    base, one, two = laboratory.add(right=10), *(laboratory.add("legal", 100, seed=seed, right=11) for seed in (0, 1))
    lost = two.model_copy(update={"exams": (), "failed": (failed,)})
    laboratory.evals[2] = lost
    found = cell_deltas(cell(laboratory, one, lost), cell(laboratory, base), CONFIG)
    assert {delta.set_name for delta in found.overall} == {"law", "news"}
    assert {delta.set_name for delta in found.by_seed if delta.subject == one.run} == {"law", "news", "smoke"}
    laboratory.evals[2] = two.model_copy(update={"exams": ()})
    with pytest.raises(DataError, match="seed1 was not scored on the exam smoke"):
        cell_deltas(cell(laboratory, one, two.model_copy(update={"exams": ()})), cell(laboratory, base), CONFIG)
