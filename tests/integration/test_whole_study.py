"""One whole tiny study, run once through the command line; every test reads its results."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt_ray.data.rows.shards import ShardReader
from cpt_ray.edges import ray_runtime
from cpt_ray.records import Comparison, DocumentsRecord, EvalRecord, HeldOutRecord
from cpt_ray.study.findings.curves import SCORES
from cpt_ray.study.stages.evaluate import base_run
from cpt_ray.train.monitor.metrics import read_events, read_metrics
from tests.edges.tracking.test_event_files import scalars
from tests.integration.finished import CONTROL, LARGE, SMALL, TRUNK, FinishedStudy, cpt_ray
from tests.integration.tiny_study import BUDGETS, DOCUMENTS, SEQUENCE_LENGTH, document

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STAGES = ["read", "clean", "near_duplicates", "held_out", "decontaminate", "tokenize"]
GLOBAL_BATCH_SLOTS = 4 * SEQUENCE_LENGTH


@pytest.fixture(scope="module")
def done(finished_study) -> FinishedStudy:
    return finished_study


def test_the_study_ends_well_with_a_summary_and_the_path_of_the_report(done):
    lines = done.said.splitlines()
    for name in (base_run("tiny"), SMALL, LARGE, CONTROL):
        assert any(line.startswith(name) for line in lines), name
    assert f"report:  {done.study.root / 'report.html'}" in lines
    assert f"models:  {done.study.root / 'exports'}" in lines
    assert any(line.startswith("mlflow:  mlflow ui --host 127.0.0.1") for line in lines)
    assert Comparison.load(done.study.root / "comparison.json").verdict in done.said


def test_what_a_worker_warned_of_is_in_console_log_events_and_report(done):
    text = "of the computed rows are idle: 4 rows per step over 2 workers"
    assert re.search(rf"^  warning: .*{text}", done.warned, re.MULTILINE)
    for name in (TRUNK, SMALL, LARGE, CONTROL):
        (warning,) = (event for event in read_events(done.folder("train", name)) if event.kind == "warning")
        assert text in warning.text
        log = (done.folder("train", name) / "logs" / "rank-00000.log").read_text()
        assert re.search(rf"WARNING cpt_ray\.train\.worker: .*{text}", log)
    assert text in (done.study.root / "report.html").read_text()


def test_the_funnel_adds_up_for_every_stage_and_source(done):
    reports = done.manifest().reports
    for source in ("law", "news"):
        of_source = [report for report in reports if report.source == source]
        assert [report.stage for report in of_source] == STAGES
        for before, after in itertools.pairwise(of_source):
            assert after.input == before.kept
        for report in of_source:
            lost = sum(amount.documents for amount in report.dropped.values())
            assert report.input.documents == report.kept.documents + lost
            lost_bytes = sum(amount.bytes for amount in report.dropped.values())
            assert report.input.bytes == report.kept.bytes + lost_bytes + report.edited_bytes
        raw = (done.study.inputs / f"{source}.jsonl").read_text().splitlines()
        assert of_source[0].input.documents == len(raw) >= DOCUMENTS


def test_shard_tokens_slots_and_loss_tokens_balance(done):
    manifest = done.manifest()
    assert {source: len(manifest.of_source(source)) >= 3 for source in ("law", "news")} == {"law": True, "news": True}
    for entry in manifest.shards:
        assert entry.tokens == entry.tokenizer_tokens + entry.separator_tokens
        assert entry.separator_tokens == entry.documents > 0
        assert entry.rows * manifest.sequence_length == entry.tokens + entry.padding
        assert entry.loss_tokens == entry.tokens - entry.segments
    packed = sum(entry.documents for entry in manifest.shards)
    assert packed == sum(report.kept.documents for report in manifest.reports if report.stage == "tokenize")
    assert f"= {sum(entry.tokens for entry in manifest.shards)} in" in done.said


def dropped(done: FinishedStudy, stage: str) -> dict[str, int]:
    report = next(r for r in done.manifest().reports if r.stage == stage and r.source == "law")
    return {reason: amount.documents for reason, amount in report.dropped.items() if amount.documents}


def trained_on(done: FinishedStudy) -> set[str]:
    folder, manifest = done.folder("shards"), done.manifest()
    return {name for entry in manifest.shards for name in pq.read_table(folder / entry.index_path)["document_id"].to_pylist()}


def test_what_was_planted_is_dropped_under_its_name(done):
    assert dropped(done, "clean") == {"min_bytes": 2}
    assert dropped(done, "near_duplicates") == {"exact_duplicate": 1, "near_duplicate": 1}
    assert dropped(done, "decontaminate") == {"exam_item": 1}
    samples = DocumentsRecord.load(done.folder("documents") / "documents.json").samples
    named = {(sample["reason"], sample["id"]) for sample in samples}
    assert {("min_bytes", "short_1"), ("min_bytes", "short_2")} <= named
    assert {reason for reason, name in named if name in ("dup_of_law_3", "law_3")} == {"near_duplicate"}
    assert {reason for reason, name in named if name in ("copy_of_law_4", "law_4")} == {"exact_duplicate"}
    trained = trained_on(done)
    assert len(trained) > DOCUMENTS
    assert not trained & {"short_1", "short_2", "leaks_exam_2"}
    assert not {"dup_of_law_3", "law_3"} <= trained
    assert not {"copy_of_law_4", "law_4"} <= trained


def test_the_planted_leak_is_reported_with_the_words_that_matched(done):
    hits = [json.loads(line) for line in (done.folder("shards") / "exam_hits.jsonl").read_text().splitlines()]
    assert [hit["document"] for hit in hits] == ["leaks_exam_2"]
    assert hits[0]["matched"].isupper()  # as written in the document, not as in the exam
    scan = json.loads((done.folder("shards") / "exam_scan.json").read_text())["tasks"]
    assert (scan[0]["items"], scan[0]["scanned"], scan[0]["items_found"]) == (8, 8, 1)


def test_held_out_documents_are_never_trained_on(done):
    record = HeldOutRecord.load(done.folder("held_out") / "held_out.json")
    held = {
        json.loads(line)["id"]
        for entry in record.sets
        for line in (done.folder("held_out") / entry.path).read_text().splitlines()
    }
    assert len(held) == sum(entry.documents for entry in record.sets) > 10
    assert not held & trained_on(done)


def test_a_raw_document_is_found_again_in_decoded_rows(done):
    folder, manifest = done.folder("shards"), done.manifest()
    reader = ShardReader(folder, manifest)
    tokenizer = AutoTokenizer.from_pretrained(done.folder("models"))
    wanted = {f"law_{number}": number for number in range(20, 30)}
    pieces: dict[str, dict[int, list[int]]] = {}
    first = 0
    for entry in manifest.of_source("law"):
        filled: dict[int, int] = {}
        for place in pq.read_table(folder / entry.index_path).to_pylist():
            begin = filled.get(place["row"], 0)  # the index lists pieces in row order
            filled[place["row"]] = begin + place["tokens"]
            if place["document_id"] in wanted:
                row = reader.rows("law", [first + place["row"]])[0]
                pieces.setdefault(place["document_id"], {})[place["offset"]] = row.tokens[begin : filled[place["row"]]].tolist()
        first += entry.rows
    assert len(pieces) >= 5
    for name, parts in pieces.items():
        ids = [token for offset in sorted(parts) for token in parts[offset]]
        assert ids[-1] == manifest.separator_id
        assert tokenizer.decode(ids[:-1]) == document("law", wanted[name])


def test_every_stage_ran_in_at_least_two_processes(done):
    pids = done.manifest().task_pids
    assert set(STAGES) <= set(pids)
    assert {stage: len(set(found)) >= 2 for stage, found in pids.items()} == dict.fromkeys(pids, True)
    assert os.getpid() not in {pid for found in pids.values() for pid in found}
    for name in (TRUNK, SMALL, LARGE, CONTROL):
        assert len(set(done.run(name).training.worker_pids)) == 2
        assert done.run(name).training.world_sizes == (2,)


def test_each_budget_is_met_within_one_global_batch(done):
    for name, budget in ((SMALL, BUDGETS[0]), (LARGE, BUDGETS[1]), (CONTROL, BUDGETS[1])):
        record = done.run(name)
        assert record.budget_tokens == budget
        assert budget <= record.tokens_seen < budget + GLOBAL_BATCH_SLOTS
        assert record.annealed
        assert record.training.progress.slots_seen == record.training.progress.step * GLOBAL_BATCH_SLOTS
    assert not done.run(TRUNK).annealed
    assert done.run(TRUNK).export_path is None


def test_the_branches_go_on_from_the_trunk_and_the_counts_are_those_of_the_rows(done):
    manifest = done.manifest()
    reader = ShardReader(done.folder("shards"), manifest)
    trunk = {step.step: step for step in read_metrics(done.folder("train", TRUNK))}
    for name in (SMALL, LARGE):
        own = {step.step: step for step in read_metrics(done.folder("train", name))}
        first = min(own)
        assert first - 1 in trunk, "the branch starts after a step of the trunk"
        assert done.run(name).training.first_steps == (first - 1,)
        lineage = [trunk[step] for step in range(1, first)] + [own[step] for step in sorted(own)]
        rows = [sample for step in lineage for sample in step.sample_ids]
        assert len(rows) == len(set(rows)) == done.run(name).training.progress.position  # below one epoch no row is seen twice
        seen = [(source, int(row)) for source, row in (sample.rsplit(":", 1) for sample in rows)]
        assert sum(int(reader.loss_tokens(source, [row])[0]) for source, row in seen) == done.run(name).tokens_seen
        assert {source for source, _ in seen} == {"law", "news"}


def test_the_self_test_passed_and_its_control_failed(done):
    for name in (TRUNK, SMALL, LARGE, CONTROL):
        proof = done.run(name).training.last.self_test
        assert proof.passed
        assert proof.masked_difference <= proof.allowed_difference < proof.unmasked_difference
        assert proof.unmasked_difference > 0.01


def test_training_lowered_the_loss(done):
    steps = read_metrics(done.folder("train", CONTROL))
    assert len(steps) > 10
    assert steps[-1].loss < steps[0].loss - 0.5


@pytest.mark.parametrize("name", [SMALL, LARGE, CONTROL])
def test_an_export_loads_with_transformers_alone_and_generates(done, name):
    folder = done.folder("train", name) / "export"
    assert str(folder) == done.run(name).export_path
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer(document("law", 1)[:40], return_tensors="pt")
    made = model.generate(**prompt, max_new_tokens=5, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    assert made.shape[1] > prompt["input_ids"].shape[1]
    base = AutoModelForCausalLM.from_pretrained(done.study.model)
    assert not torch.equal(model.lm_head.weight.float(), base.lm_head.weight.float())


def test_base_budgets_and_control_are_scored_on_the_same_documents(done):
    records = [
        EvalRecord.load(done.folder("evaluate", name) / "evaluation.json") for name in (base_run("tiny"), SMALL, LARGE, CONTROL)
    ]
    sets = [[(s.source, s.part, s.documents, s.scored_bytes) for s in record.held_out] for record in records]
    assert sets == [sets[0]] * 4
    assert {source for source, *_ in sets[0]} == {"law", "news"}
    assert {exam.items for record in records for exam in record.exams} == {8}
    assert all(math.isfinite(score.bits_per_byte) for record in records for score in record.held_out)


def test_mlflow_shows_one_study_with_its_curve_and_a_run_per_run(done):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{done.study.root}/mlflow.db")
    experiment = client.get_experiment_by_name("cpt-ray").experiment_id
    runs = client.search_runs([experiment])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in parents] == ["tiny"]
    children = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id}
    assert set(children) == {base_run("tiny"), TRUNK, SMALL, LARGE, CONTROL}
    assert all(run.info.status == "FINISHED" for run in runs)
    for key, ends in {
        "domain.law.bits_per_byte": [done.run(SMALL).tokens_seen, done.run(LARGE).tokens_seen],
        "general.news.bits_per_byte": [done.run(SMALL).tokens_seen, done.run(LARGE).tokens_seen],
        "control.domain.law.bits_per_byte": [done.run(CONTROL).tokens_seen],
    }.items():
        history = client.get_metric_history(parents[0].info.run_id, key)
        assert sorted(metric.step for metric in history) == [0, *ends], key
    for name in (TRUNK, SMALL, LARGE, CONTROL):
        steps = read_metrics(done.folder("train", name))
        for key in ("loss", "learning_rate"):
            history = client.get_metric_history(children[name].info.run_id, key)
            assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == [
                (step.tokens_seen, getattr(step, key)) for step in steps
            ]


def test_tensorboard_has_the_same_curves_and_status_calls_the_study_finished(done):
    root = done.study.root
    names = {name: done.folder("train", name).name for name in (TRUNK, SMALL, LARGE, CONTROL)}
    assert {path.name for path in (root / "tensorboard").iterdir()} == {*names.values(), SCORES}
    for name in (TRUNK, SMALL, LARGE, CONTROL):
        losses = [(tokens, value) for key, tokens, value in scalars(root, names[name]) if key == "train/loss"]
        assert losses == [(step.tokens_seen, pytest.approx(step.loss)) for step in read_metrics(done.folder("train", name))]
    small = done.run(SMALL).tokens_seen
    assert ("domain/law/bits_per_byte", small) in {(key, tokens) for key, tokens, _ in scalars(root, SCORES)}
    code, said = cpt_ray("status", str(done.study.config))
    assert code == 0
    assert "state: finished" in said
    assert "made: prepare 6/6, train 4/4, evaluate 4/4" in said
    assert f"{LARGE}  " in said
    assert said.splitlines()[-1] == f"next: python -m webbrowser {root}/report.html"


def test_the_report_holds_the_verdict_and_is_made_again_from_records_byte_by_byte(done, monkeypatch):
    report = done.study.root / "report.html"
    first = report.read_bytes()
    verdict = Comparison.load(done.study.root / "comparison.json").verdict
    assert verdict.split(";")[0].replace("'", "&#39;") in first.decode()
    report.unlink()
    (done.study.root / "comparison.json").unlink()
    refuse_ray(monkeypatch)
    code, said = cpt_ray("report", str(done.study.config))
    assert code == 0
    assert str(report) in said
    assert report.read_bytes() == first


def refuse_ray(monkeypatch) -> None:
    def refuse(*_):
        raise AssertionError("Ray was requested, but there is nothing to do")

    monkeypatch.setattr(ray_runtime, "ray_session", refuse)


def artifact_times(root: Path) -> dict[str, int]:
    """Path to modification time of every file of every stage; neither MLflow's copies nor links to exports are artifacts."""
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in root.glob("*/*/**/*")
        if path.is_file() and not {"mlartifacts", "tensorboard", "exports"} & {*path.parts}
    }


def test_a_second_run_redoes_nothing_and_starts_no_ray(done, monkeypatch):
    before = artifact_times(done.study.root)
    assert len(before) > 50
    refuse_ray(monkeypatch)
    code, said = cpt_ray("run", str(done.study.config))
    assert code == 0
    assert artifact_times(done.study.root) == before
    assert len(re.findall(r"^  reused  ", said, re.MULTILINE)) == len(re.findall(r"^  made ", done.said, re.MULTILINE)) == 14
    assert not re.search(r"^  made ", said, re.MULTILINE)
    assert "report:  " in said


def test_another_learning_rate_redoes_training_and_its_scores_and_nothing_else(done, tmp_path):
    study = done.study.copy(tmp_path / "study")  # other tests count the folders of `done`
    before = artifact_times(study.root)
    # Runtime settings are not part of an address: one process starts faster than a worker group.
    local = ("runtime.kind=local", "runtime.workers=1")
    code, said = cpt_ray("run", str(study.config), "train.learning_rate=1e-3", *local)
    assert code == 0
    made = re.findall(r"^  made    (\S+)-[0-9a-f]{8} ", said, re.MULTILINE)
    reused = re.findall(r"^  reused  (\S+)-[0-9a-f]{8} ", said, re.MULTILINE)
    assert sorted(made) == sorted(
        [f"train/{name}" for name in (TRUNK, SMALL, LARGE, CONTROL)] + [f"evaluate/{name}" for name in (SMALL, LARGE, CONTROL)]
    )
    assert set(reused) == {
        *("models/tiny", "exams/tiny", "scan/tiny", "documents/tiny", "held_out/tiny", "shards/tiny", "evaluate/tiny-base")
    }
    after = artifact_times(study.root)
    assert {name: after[name] for name in before} == before
    assert len(list((study.root / "train").glob(f"{LARGE}-*"))) == 2
