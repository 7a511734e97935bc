"""Killed and resumed at the same number of workers: bitwise. At another: the same rows, losses equal within rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpt_ray.errors import TrainingError
from cpt_ray.records import RunRecord, StateFigures
from cpt_ray.train import checkpoint
from cpt_ray.train.state_guard import require_same_state
from tests.train import resume_jobs
from tests.train.tiny_run import make_model, make_shards
from tests.train.zero_group import JobError

SETTINGS = {"budgets": [3500], "checkpoint_every": 700, "keep_checkpoints": 99, "global_batch_size": 6}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("resume")
    make_model(root)
    make_shards(root)
    return root


def undisturbed(root: Path, zero_groups, workers: int, stage: int, precision: str) -> tuple[str, dict]:
    """A whole run of so many workers; made once."""
    settings = {**SETTINGS, "stage": stage, "precision": precision}
    name = f"whole-{workers}-{stage}-{precision}"
    if not (root / name / "run.json").exists():
        assert zero_groups.of(workers).run(resume_jobs.train_run, root, name, settings) == [None] * workers
    return name, settings


ALL = [(stage, precision) for stage in (1, 2, 3) for precision in ("fp32", "bf16")]
IN_CI = [(2, "fp32")]


@pytest.mark.parametrize(
    ("stage", "precision"), [pytest.param(*case, marks=() if case in IN_CI else pytest.mark.full) for case in ALL]
)
def test_two_workers_killed_and_resumed_end_bitwise_where_undisturbed_ones_do(root, zero_groups, stage, precision):
    whole, settings = undisturbed(root, zero_groups, 2, stage, precision)
    name = f"killed-{stage}-{precision}"
    with pytest.raises(JobError, match="rank 1: died"):
        zero_groups.of(2).run(resume_jobs.train_and_die, root, name, settings, 1)
    assert zero_groups.of(2).run(resume_jobs.train_run, root, name, settings) == [None, None]
    first, second = resume_jobs.attempts(root / name)
    assert second.resumed
    assert second.first_step > 0  # it really resumed
    assert not set(first.worker_pids) & set(second.worker_pids)
    facts = [
        [(m.step, m.loss, m.gradient_norm, m.sample_ids, m.tokens_seen) for m in resume_jobs.steps_after(root / run, 0)]
        for run in (whole, name)
    ]
    assert facts[0] == facts[1]
    weights = [
        load_file(Path(RunRecord.load(root / run / "run.json").export_path) / "model.safetensors") for run in (whole, name)
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


SIZES = [(2, 1), (1, 2), (2, 4), (3, 6)]
SIZES_IN_CI = [(2, 1, 1), (2, 1, 3)]
CASES = [(before, after, stage) for before, after in SIZES for stage in (1, 2, 3)]


@pytest.mark.parametrize(
    ("before", "after", "stage"), [pytest.param(*case, marks=() if case in SIZES_IN_CI else pytest.mark.full) for case in CASES]
)
def test_another_number_of_workers_goes_on_and_without_moments_it_would_be_refused(root, zero_groups, before, after, stage):
    whole, settings = undisturbed(root, zero_groups, before, stage, "fp32")
    step = checkpoint.committed(root / whole)[0][1].step
    names = {kind: f"{before}-to-{after}-{stage}-{kind}" for kind in ("with", "without", "guarded")}
    for name in names.values():
        resume_jobs.cut_after(root, whole, name, step)
    group = zero_groups.of(after)
    assert group.run(resume_jobs.train_run, root, names["with"], settings) == [None] * after
    assert group.run(resume_jobs.train_without_moments, root, names["without"], settings, False) == [None] * after
    refusals = group.run(resume_jobs.train_without_moments, root, names["guarded"], settings, True)

    attempt = resume_jobs.attempts(root / names["with"])[-1]
    assert (attempt.world_size, attempt.loaded.world_size, attempt.loaded.converted) == (after, before, True)
    assert attempt.first_step == step > 0
    lines = {run: resume_jobs.steps_after(root / run, step) for run in (whole, names["with"], names["without"])}
    assert [(m.sample_ids, m.tokens_seen) for m in lines[whole]] == [
        (m.sample_ids, m.tokens_seen) for m in lines[names["with"]]
    ]
    off = {
        kind: max(abs(a.loss - b.loss) for a, b in zip(lines[whole], lines[names[kind]], strict=True))
        for kind in ("with", "without")
    }
    assert off["with"] < 1e-5
    assert off["without"] > 10 * off["with"]
    for refusal in refusals:
        assert isinstance(refusal, TrainingError)
        assert "exp_avg_norm was" in refusal.problem
        assert " loss was" not in refusal.problem  # what only the norms can see
        assert "optimizer_steps" not in refusal.problem


def test_a_state_that_is_not_the_saved_one_is_refused_figure_by_figure():
    saved = StateFigures(loss=3.0, weights_norm=10.0, exp_avg_norm=1.0, exp_avg_sq_norm=0.1, optimizer_steps=7)
    require_same_state(saved, saved.model_copy(update={"weights_norm": 10.0 * (1 + 1e-7)}), precision="fp32", place="ckpt")
    for name, value in (("loss", 3.001), ("weights_norm", 10.1), ("exp_avg_norm", 0.0), ("exp_avg_sq_norm", float("nan"))):
        with pytest.raises(TrainingError, match=f"ckpt: the loaded state is not the one that was saved: {name} was") as error:
            require_same_state(saved, saved.model_copy(update={name: value}), precision="fp32", place="ckpt")
        assert error.value.fix.startswith("delete ckpt; the checkpoint before it is used")
    with pytest.raises(TrainingError, match="optimizer_steps was 7 and is 8"):
        require_same_state(saved, saved.model_copy(update={"optimizer_steps": 8}), precision="bf16", place="ckpt")
    require_same_state(saved, saved.model_copy(update={"loss": 3.001}), precision="bf16", place="ckpt")
