"""A whole run on one worker: prove, train, branch, resume, export."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpt_ray.edges.lease import FILE, Lease
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ArtifactError, LeaseError, TrainingError, TrainingStopped
from cpt_ray.records import CheckpointManifest, RunAttempt, RunProgress, RunRecord, StepMetrics
from cpt_ray.train import worker
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.checkpoint.snapshot import read_times
from cpt_ray.train.monitor.metrics import read_metrics
from cpt_ray.train.monitor.step_checks import StepRefused
from tests.train.checkpoint.resume_jobs import cut_after
from tests.train.tiny_run import make_task, run, spec_named, tiny_config

WHOLE = {"precision": "fp32", "budgets": [1500], "checkpoint_every": 400, "keep_checkpoints": 9}


@pytest.fixture(scope="module")
def whole(root) -> str:
    """Folder of an uninterrupted fp32 run that kept its checkpoints."""
    run(root, "legal-1500", "whole", **WHOLE)
    return "whole"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_equals_an_undisturbed_one_bitwise(root, precision):
    settings = {**WHOLE, "precision": precision}
    whole = run(root, "legal-1500", f"whole-{precision}", **settings)
    cut_after(root, f"whole-{precision}", f"cut-{precision}", step=4)
    again = run(root, "legal-1500", f"cut-{precision}", **settings)
    assert again.training.first_steps == (0, 4)  # it did resume
    assert len(again.training.attempts) == 2
    first, second = read_metrics(root / f"whole-{precision}"), read_metrics(root / f"cut-{precision}")
    assert [(m.loss, m.sample_ids, m.tokens_seen, m.gradient_norm) for m in first] == [
        (m.loss, m.sample_ids, m.tokens_seen, m.gradient_norm) for m in second
    ]
    weights = [load_file(Path(r.export_path) / "model.safetensors") for r in (whole, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_cooldown_of_its_own_mixture_begins_at_the_checkpoint_and_survives_a_resume(root):
    settings = {"checkpoint_every": 150, "keep_checkpoints": 9}
    arm = {"cooldown_mix": {"news": 1.0}, "segments": [{"from": 400, "mix": {"law": 0.5, "news": 0.5}}]}
    trunk = run(root, "legal-trunk", "mixed-trunk", arm=arm, **settings)
    branch = run(root, "legal-2000", "mixed", parent="mixed-trunk", arm=arm, **settings)
    assert [mix.weights for mix in branch.training.mixes][-1] == {"news": 1.0}
    assert branch.training.mixes[-1].first_position == trunk.training.progress.position
    assert branch.training.mixes[:-1] == trunk.training.mixes
    assert len(trunk.training.mixes) == 2
    steps = read_metrics(root / "mixed")
    assert {name.split(":")[0] for step in steps for name in step.sample_ids} == {"news"}
    first = checkpoint.committed(root / "mixed")[0][1].progress.step
    cut_after(root, "mixed", "mixed-cut", step=first)
    again = run(root, "legal-2000", "mixed-cut", parent="mixed-trunk", arm=arm, **settings)
    assert len(again.training.attempts) == 2
    assert [step.sample_ids for step in read_metrics(root / "mixed-cut")] == [step.sample_ids for step in steps]
    assert again.training.mixes == branch.training.mixes


def test_a_branch_continues_the_trunks_positions_and_anneals(root):
    trunk = run(root, "legal-trunk", "trunk")
    branch = run(root, "legal-2000", "branch", parent="trunk")
    assert trunk.export_path is None
    assert not trunk.annealed
    assert branch.annealed
    assert branch.training.first_steps[0] > 0
    assert RunAttempt.load(root / "branch" / "attempts" / "attempt-0001.json").resumed is False
    steps, trunk_steps = read_metrics(root / "branch"), read_metrics(root / "trunk")
    assert steps[0].step == trunk_steps[-1].step + 1
    assert steps[0].sample_ids != trunk_steps[-1].sample_ids
    assert steps[-1].learning_rate < steps[0].learning_rate
    assert 2000 <= branch.tokens_seen < 2000 + 4 * 64


def test_the_spike_window_of_a_resumed_branch_has_the_trunk_up_to_the_branch_point_and_then_its_own(root, monkeypatch):
    run(root, "legal-trunk", "long-trunk")
    run(root, "legal-1000", "early", parent="long-trunk")
    attempt = RunAttempt.load(root / "early" / "attempts" / "attempt-0001.json")
    begun = attempt.first_step
    trunk, own = (list(read_metrics(root / name)) for name in ("long-trunk", "early"))
    assert trunk[-1].step > begun, "the trunk went on"
    seen: list[list[float]] = []
    monkeypatch.setattr(worker, "Guards", lambda *_, history, **__: seen.append(history))
    config = tiny_config(root)
    task = make_task(root, config, spec_named(config, "legal-1000"), "early", root / "long-trunk")
    resumed = begun + 2
    start = worker.Start(branch=RunProgress(step=begun), resume=None)
    worker._guards(task, start, RunProgress(step=resumed), attempt)
    assert seen == [[step.loss for step in trunk if step.step <= begun] + [step.loss for step in own if step.step <= resumed]]
    assert len(seen[0]) == resumed


@pytest.mark.parametrize(("error", "drained"), [(StepRefused, 1), (TrainingError, 0)])
def test_only_a_refusal_of_the_guards_waits_for_the_others_on_its_way_out(root, monkeypatch, error, drained):
    """Any other error may be of one rank alone, whose collective would hold up the others until it times out."""
    drains: list[int] = []

    def refuse(*_args, **_settings):
        raise error("no", fix="none")

    monkeypatch.setattr(worker, "train", refuse)
    monkeypatch.setattr(worker.Saver, "drain", lambda _: drains.append(1))
    with pytest.raises(error, match="no"):
        run(root, "legal-1000", f"refused-{error.__name__}")
    assert len(drains) == drained


def test_micro_batch_size_changes_nothing_beyond_rounding(root):
    one = run(root, "control", "micro1", micro_batch_size=1)
    four = run(root, "control", "micro4", micro_batch_size=4)
    assert one.tokens_seen == four.tokens_seen
    for a, b in zip(read_metrics(root / "micro1"), read_metrics(root / "micro4"), strict=True):
        assert a.sample_ids == b.sample_ids
        assert a.loss == pytest.approx(b.loss, abs=1e-5)
        assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-4)


def test_training_lowers_the_loss_of_text_it_repeats(root):
    record = run(root, "control", "learns", budgets=[1000, 9000], learning_rate=3e-3)
    steps = read_metrics(root / "learns")
    assert steps[-1].loss < steps[0].loss - 0.3
    assert record.training.last.self_test is not None
    assert record.training.last.self_test.passed


def test_gradient_checkpointing_gives_the_same_losses(root):
    run(root, "control", "plain", budgets=[500])
    run(root, "control", "recompute", budgets=[500], gradient_checkpointing=True)
    plain, recompute = read_metrics(root / "plain"), read_metrics(root / "recompute")
    assert [m.loss for m in plain] == pytest.approx([m.loss for m in recompute], abs=1e-6)


def test_isolation_none_trains_without_a_proof(root):
    record = run(root, "control", "leaky", budgets=[500], isolation="none")
    assert record.training.last.self_test is None
    run(root, "control", "isolated", budgets=[500])
    # The rows of the first step may hold one document each, and then nothing can leak.
    leaky, plain = ([step.loss for step in read_metrics(root / name)] for name in ("leaky", "isolated"))
    assert leaky != plain
    assert len(leaky) > 1


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_checkpoint_that_contradicts_its_manifest_is_skipped_and_reported(root, whole):
    cut_after(root, whole, "broken", step=4)
    (older, _), (newest, _) = checkpoint.committed(root / "broken")[-2:]
    flip_a_bit(newest / "engine" / "mp_rank_00_model_states.pt")
    record = run(root, "legal-1500", "broken", **WHOLE)
    loaded = RunAttempt.load(root / "broken" / "attempts" / "attempt-0002.json").loaded
    assert record.training.first_steps == (0, CheckpointManifest.load(older / "manifest.json").progress.step)
    assert loaded.folder == str(older)
    assert len(loaded.skipped) == 1
    assert "mp_rank_00_model_states.pt: sha256" in loaded.skipped[0]
    undisturbed, again = (load_file(root / name / "export" / "model.safetensors") for name in (whole, "broken"))
    assert all(torch.equal(undisturbed[name], again[name]) for name in undisturbed)


@pytest.mark.parametrize("damaged", ["a0001", "a0002"])
def test_a_branch_begins_at_the_attempt_at_its_branch_point_that_is_intact(root, damaged):
    name = f"twice-{damaged}"
    run(root, "legal-trunk", name)
    folder = checkpoint.newest(root / name)[0]
    again = folder.with_name(folder.name.replace("a0001", "a0002"))
    shutil.copytree(folder, again)
    second = CheckpointManifest.load(again / "manifest.json").model_copy(update={"attempt": 2})
    (again / "manifest.json").write_text(second.to_json(), encoding="utf-8")
    broken, intact = (folder, again) if damaged == "a0001" else (again, folder)
    flip_a_bit(broken / "engine" / "mp_rank_00_model_states.pt")
    run(root, "legal-2000", f"branch-{name}", parent=name)
    loaded = RunAttempt.load(root / f"branch-{name}" / "attempts" / "attempt-0001.json").loaded
    assert loaded.folder == str(intact)
    assert len(loaded.skipped) == (damaged == "a0002")  # the newer one is tried first


@pytest.mark.parametrize("spoil", ["cut", "manifest", "missing"])
def test_a_run_without_a_whole_checkpoint_is_an_error_and_not_a_new_start(root, whole, spoil):
    cut_after(root, whole, f"broken-{spoil}", step=4)
    for folder, _ in checkpoint.committed(root / f"broken-{spoil}"):
        path = folder / "engine" / "mp_rank_00_model_states.pt"
        if spoil == "cut":
            os.truncate(path, path.stat().st_size - 1)
        elif spoil == "missing":
            path.unlink()
        else:
            os.truncate(folder / "manifest.json", 100)
    message = {"cut": "bytes, but its manifest says", "missing": "missing, but its", "manifest": "not a checkpoint manifest"}
    with pytest.raises(ArtifactError, match=f"no checkpoint is intact: .*{message[spoil]}") as error:
        run(root, "legal-1500", f"broken-{spoil}", **WHOLE)
    assert (
        error.value.fix == f"delete {root / f'broken-{spoil}'} and re-run the same command; it will be trained from the start"
    )


def test_a_manifest_says_what_a_resume_needs(root, whole):
    _, manifest = checkpoint.newest(root / whole)
    assert (manifest.world_size, manifest.zero_stage, manifest.precision, manifest.global_batch_size) == (1, 2, "fp32", 4)
    assert (manifest.run_fingerprint, manifest.data_fingerprint) == ("e" * 64, "f" * 64)
    assert manifest.progress.position == 4 * manifest.progress.step
    assert manifest.figures.optimizer_steps == manifest.progress.step
    assert min(manifest.figures.loss, manifest.figures.weights_norm, manifest.figures.moments["exp_avg_sq"]) > 0
    assert set(manifest.versions) == {"torch", "deepspeed", "transformers"}
    assert {Path(entry.path).name for entry in manifest.files} >= {"mp_rank_00_model_states.pt"}
    assert all(len(entry.sha256) == 64 for entry in manifest.files)


def test_the_times_of_each_checkpoint_are_on_record(root, whole):
    times = read_times(root / whole)
    assert [(entry.step, entry.world_size, entry.reason) for entry in times] == [
        (manifest.progress.step, 1, "interval") for _, manifest in checkpoint.committed(root / whole)
    ]
    assert min(entry.checkpoint_stall_s for entry in times) > 0
    assert min(entry.upload_s for entry in times) > 0
    cut_after(root, whole, "timed", step=4)
    run(root, "legal-1500", "timed", **WHOLE)
    attempt = RunAttempt.load(root / "timed" / "attempts" / "attempt-0002.json")
    assert attempt.loaded.verify_s > 0
    assert attempt.loaded.load_s > 0
    assert (attempt.loaded.converted, attempt.loaded.convert_s) == (False, 0)
    assert attempt.loaded.saved == attempt.loaded.measured


def test_a_stop_is_obeyed_between_steps_and_the_same_task_resumes(root, whole, monkeypatch):
    from cpt_ray.train import worker

    wanted = False
    monkeypatch.setattr(worker.Watch, "stop_wanted", lambda self: wanted)
    config = tiny_config(root, budgets=[1500], checkpoint_every=100_000)
    task = make_task(root, config, spec_named(config, "legal-1500"), "stopped")
    wanted = True
    with pytest.raises(TrainingStopped, match=r"legal-1500-seed0: stopped at step 0, 0 tokens, saved") as error:
        worker.run_worker(task)
    assert error.value.exit_code == 130
    wanted = False

    log = worker.Watch.log

    def log_and_ask(self, metrics: StepMetrics) -> None:
        nonlocal wanted
        log(self, metrics)
        wanted = metrics.step == 2

    with monkeypatch.context() as patched, pytest.raises(TrainingStopped, match="stopped at step 2, "):
        patched.setattr(worker.Watch, "log", log_and_ask)
        worker.run_worker(task)
    assert checkpoint.newest(root / "stopped")[1].progress.step == 2
    assert read_times(root / "stopped")[0].reason == "stop"
    wanted = False
    worker.run_worker(task)
    assert RunRecord.load(root / "stopped" / "run.json").training.first_steps == (0, 0, 2)
    steps = [[(m.loss, m.sample_ids) for m in read_metrics(root / name)] for name in (whole, "stopped")]
    assert steps[0] == steps[1]


@pytest.mark.accept(training=5)
def test_a_superseded_driver_may_not_commit(root, record_property):
    from cpt_ray.train.worker import run_worker

    config = tiny_config(root, budgets=[1500], checkpoint_every=400)
    task = make_task(root, config, spec_named(config, "legal-1500"), "zombie")
    write_atomic(root / FILE, Lease(attempt=2, host="test", pid=2, process_start=0, renewed=0).to_json())
    with pytest.raises(LeaseError, match="attempt 1 may no longer write") as refused:
        run_worker(task)
    assert checkpoint.newest(root / "zombie") is None
    record_property("commit of an older attempt", refused.value.problem)
