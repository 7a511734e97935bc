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
from cpt_ray.errors import ArtifactError, LeaseError, TrainingError
from cpt_ray.records import CheckpointManifest, RunAttempt, RunRecord
from cpt_ray.train import checkpoint
from cpt_ray.train.metrics import read_metrics
from tests.train.tiny_run import make_model, make_shards, make_task, spec_named, tiny_config

os.environ["DS_ACCELERATOR"] = "cpu"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_model(root)
    make_shards(root)
    return root


def run(root: Path, part: str, folder: str, parent: str | None = None, **train) -> RunRecord:
    from cpt_ray.train.worker import run_worker

    config = tiny_config(root, **train)
    run_worker(make_task(root, config, spec_named(config, part), folder, root / parent if parent else None))
    return RunRecord.load(root / folder / "run.json")


def stop_after(root: Path, source: str, target: str, step: int) -> None:
    """Copy a finished run as it stood when it had just committed its checkpoint at `step`."""
    shutil.copytree(root / source, root / target)
    (root / target / "run.json").unlink()
    shutil.rmtree(root / target / "export", ignore_errors=True)
    for folder, manifest in checkpoint.committed(root / target):
        if manifest.step > step:
            shutil.rmtree(folder)
    assert checkpoint.newest(root / target)[1].step == step


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_equals_an_undisturbed_one_bitwise(root, precision):
    settings = {"precision": precision, "budgets": [1500], "checkpoint_every": 400, "keep_checkpoints": 9}
    whole = run(root, "legal-1500", f"whole-{precision}", **settings)
    stop_after(root, f"whole-{precision}", f"cut-{precision}", step=4)
    again = run(root, "legal-1500", f"cut-{precision}", **settings)
    assert again.first_steps == (0, 4)  # it really resumed
    assert again.attempts == 2
    first, second = read_metrics(root / f"whole-{precision}"), read_metrics(root / f"cut-{precision}")
    assert [(m.loss, m.sample_ids, m.tokens_seen, m.gradient_norm) for m in first] == [
        (m.loss, m.sample_ids, m.tokens_seen, m.gradient_norm) for m in second
    ]
    weights = [load_file(Path(r.export_path) / "model.safetensors") for r in (whole, again)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_branch_continues_the_trunks_positions_and_anneals(root):
    trunk = run(root, "legal-trunk", "trunk")
    branch = run(root, "legal-2000", "branch", parent="trunk")
    assert trunk.export_path is None
    assert not trunk.annealed
    assert branch.annealed
    assert branch.first_steps[0] > 0
    assert RunAttempt.load(root / "branch" / "attempts" / "attempt-0001.json").resumed is False
    steps, trunk_steps = read_metrics(root / "branch"), read_metrics(root / "trunk")
    assert steps[0].step == trunk_steps[-1].step + 1
    assert steps[0].sample_ids != trunk_steps[-1].sample_ids
    assert steps[-1].learning_rate < steps[0].learning_rate
    assert 2000 <= branch.tokens_seen < 2000 + 4 * 64


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
    assert record.self_test is not None
    assert record.self_test.passed


def test_gradient_checkpointing_gives_the_same_losses(root):
    run(root, "control", "plain", budgets=[500])
    run(root, "control", "recompute", budgets=[500], gradient_checkpointing=True)
    plain, recompute = read_metrics(root / "plain"), read_metrics(root / "recompute")
    assert [m.loss for m in plain] == pytest.approx([m.loss for m in recompute], abs=1e-6)


def test_isolation_none_trains_without_a_proof(root):
    record = run(root, "control", "leaky", budgets=[500], isolation="none")
    assert record.self_test is None
    assert read_metrics(root / "leaky")[0].loss != read_metrics(root / "plain")[0].loss


def test_a_checkpoint_that_contradicts_its_manifest_is_refused(root):
    settings = {"budgets": [1500], "checkpoint_every": 400, "keep_checkpoints": 9}
    stop_after(root, "whole-fp32", "broken", step=4)
    folder, _ = checkpoint.newest(root / "broken")
    path = folder / "engine" / "mp_rank_00_model_states.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="but its manifest says") as error:
        run(root, "legal-1500", "broken", **settings)
    assert "the checkpoint before it is used" in error.value.fix
    shutil.rmtree(folder)
    assert run(root, "legal-1500", "broken", **settings).first_steps[-1] == checkpoint.committed(root / "whole-fp32")[0][1].step


def test_another_worker_count_stage_or_data_is_refused_with_a_fix(root):
    folder, manifest = checkpoint.newest(root / "whole-fp32")
    same = {"rank": 0, "world_size": 1, "zero_stage": 2, "data_fingerprint": "f" * 64}
    checkpoint.verify(folder, manifest, **same)
    with pytest.raises(TrainingError, match="written by 1 workers, but there are 2"):
        checkpoint.verify(folder, manifest, **{**same, "world_size": 2})
    with pytest.raises(TrainingError, match=r"written at ZeRO stage 2, but train\.deepspeed asks for 3"):
        checkpoint.verify(folder, manifest, **{**same, "zero_stage": 3})
    with pytest.raises(TrainingError, match="written on other data"):
        checkpoint.verify(folder, manifest, **{**same, "data_fingerprint": "0"})


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


def test_pruning_keeps_the_newest_and_the_branch_points(tmp_path):
    for step in range(1, 7):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}-a1"
        folder.mkdir(parents=True)
        manifest = CheckpointManifest(
            run="r", attempt=1, step=step, position=step, tokens_seen=100 * step, slots_seen=0, world_size=1, zero_stage=2,
            data_fingerprint="d", files=(), created="now",
        )  # fmt: skip
        (folder / "manifest.json").write_text(manifest.to_json())
    (tmp_path / "checkpoints" / "step-00000009-a1").mkdir()  # never committed
    checkpoint.prune(tmp_path, keep=2, keep_tokens=(150, 300))
    assert [manifest.step for _, manifest in checkpoint.committed(tmp_path)] == [2, 3, 5, 6]
    assert not (tmp_path / "checkpoints" / "step-00000009-a1").exists()
    assert checkpoint.first_at_or_past(tmp_path, 250)[1].step == 3
    with pytest.raises(TrainingError, match="no committed checkpoint at or past 700 tokens"):
        checkpoint.first_at_or_past(tmp_path, 700)
