"""Checkpoints in storage: which exist, which a run may resume from, which are pruned, and in which order one is committed."""

from __future__ import annotations

import pytest

from cpt_ray.errors import LeaseError, TrainingError
from cpt_ray.train.checkpoint import committed as checkpoint
from tests.train.checkpoint.manifests import committed_at, manifest


def steps(run):
    return [(found.progress.step, found.attempt) for _, found in checkpoint.committed(run)]


def test_a_folder_without_a_manifest_does_not_exist_and_a_bad_one_is_a_problem(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    committed_at(tmp_path, 10)
    committed_at(tmp_path, 9)
    (tmp_path / checkpoint.FOLDER / "step-00000011-a0001").mkdir()
    (committed_at(tmp_path, 12) / checkpoint.MANIFEST).write_text("{")
    found, problems = checkpoint.scan(tmp_path)
    assert [of.progress.step for _, of in found] == [9, 10]
    (problem,) = problems
    assert "step-00000012-a0001/manifest.json: not a checkpoint manifest: " in problem
    assert checkpoint.newest(tmp_path)[1].progress.step == 10


def test_of_two_at_a_step_the_newer_attempt_comes_last(tmp_path):
    for step, attempt in ((3, 2), (2, 3), (3, 1)):
        committed_at(tmp_path, step, attempt=attempt)
    assert steps(tmp_path) == [(2, 3), (3, 1), (3, 2)]


def test_a_branch_leaves_its_trunk_at_the_first_checkpoint_at_or_past_its_tokens(tmp_path):
    for step in (1, 2, 3):
        committed_at(tmp_path, step)
    assert [checkpoint.first_at_or_past(tmp_path, tokens)[0][1].progress.step for tokens in (0, 200, 201)] == [1, 2, 3]
    with pytest.raises(TrainingError, match="no committed checkpoint at or past 301 tokens") as error:
        checkpoint.first_at_or_past(tmp_path, 301)
    assert "trained from the start" in error.value.fix


def test_of_two_attempts_at_a_branch_point_the_newer_one_is_tried_first_and_kept(tmp_path):
    """The older one is there only because the newer attempt found it damaged."""
    for step, attempt in ((1, 1), (2, 1), (2, 2), (3, 2), (4, 2)):
        committed_at(tmp_path, step, attempt=attempt)
    assert [(of.progress.step, of.attempt) for _, of in checkpoint.first_at_or_past(tmp_path, 150)] == [(2, 2), (2, 1)]
    checkpoint.prune(tmp_path, keep=2, keep_tokens=(150,))
    assert steps(tmp_path) == [(2, 2), (3, 2), (4, 2)]


def test_pruning_keeps_the_newest_and_the_branch_points(tmp_path):
    for step in range(1, 7):
        committed_at(tmp_path, step)
    (tmp_path / checkpoint.FOLDER / "step-00000009-a0001").mkdir()  # never committed
    checkpoint.prune(tmp_path, keep=2, keep_tokens=(150, 300))
    assert [step for step, _ in steps(tmp_path)] == [2, 3, 5, 6]
    assert not (tmp_path / checkpoint.FOLDER / "step-00000009-a0001").exists()


def test_what_is_half_pruned_no_longer_exists(tmp_path, monkeypatch):
    for step in (1, 2):
        committed_at(tmp_path, step)

    def dies(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "remove_tree", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.prune(tmp_path, keep=1, keep_tokens=())
    assert steps(tmp_path) == [(2, 1)]
    assert (tmp_path / checkpoint.FOLDER / "step-00000001-a0001").exists()  # the next pruning removes it
    monkeypatch.undo()
    checkpoint.prune(tmp_path, keep=1, keep_tokens=())
    assert [path.name for path in (tmp_path / checkpoint.FOLDER).iterdir()] == ["step-00000002-a0001"]


def test_a_driver_that_lost_its_lease_commits_nothing(tmp_path):
    def lost():
        raise LeaseError("attempt 1 may no longer write", fix="nothing to do")

    folder = committed_at(tmp_path, 1)
    (folder / checkpoint.MANIFEST).unlink()
    with pytest.raises(LeaseError):
        checkpoint.commit(folder, manifest(1), may_commit=lost)
    assert steps(tmp_path) == []
    checkpoint.commit(folder, manifest(1), may_commit=lambda: None)
    assert steps(tmp_path) == [(1, 1)]


@pytest.mark.parametrize(
    ("key", "value", "problem", "fix"),
    [
        ("zero_stage", 3, r"written at ZeRO stage 2, but train\.deepspeed sets 3", "a DeepSpeed JSON of stage 2"),
        ("precision", "bf16", r"written with train\.precision=fp32, but it is bf16", "set train.precision=fp32"),
        ("data_fingerprint", "0", "written with different data", "delete the run's folder"),
        ("run_fingerprint", "0" * 64, "by a run with different settings", "restore the settings"),
    ],
)
def test_another_stage_precision_data_or_run_is_refused_with_a_fix(tmp_path, key, value, problem, fix):
    of = manifest(1, world_size=4)
    same = {"zero_stage": 2, "precision": "fp32", "data_fingerprint": "d", "run_fingerprint": "r"}
    checkpoint.require_compatible(tmp_path, of, **same)  # whatever the number of workers
    with pytest.raises(TrainingError, match=problem) as error:
        checkpoint.require_compatible(tmp_path, of, **{**same, key: value})
    assert fix in error.value.fix


def test_a_checkpoint_that_is_pruned_between_two_looks_is_none(tmp_path, monkeypatch):
    committed_at(tmp_path, 9)
    gone = committed_at(tmp_path, 10) / checkpoint.MANIFEST
    listed = checkpoint._manifests(tmp_path)
    gone.unlink()
    monkeypatch.setattr(checkpoint, "_manifests", lambda _: listed)
    assert steps(tmp_path) == [(9, 1)]
    assert checkpoint.scan(tmp_path)[1] == ()
