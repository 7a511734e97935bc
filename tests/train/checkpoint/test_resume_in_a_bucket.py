"""Checkpoints in a bucket, by ranks that see no file of each other: the same weights as on a disk, killed, moved or resized."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cpt_ray.edges import store
from cpt_ray.edges.store.addresses import CACHE
from cpt_ray.errors import ArtifactError, TrainingStopped
from cpt_ray.records import RunRecord
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.monitor.metrics import bring_run
from tests.object_store import ObjectStore
from tests.train.checkpoint import bucket_jobs, resume_jobs
from tests.train.engine.zero_group import JobError, ZeroGroups
from tests.train.tiny_run import make_model, make_shards

pytestmark = [pytest.mark.slow, pytest.mark.accept(cluster=5)]
AWAY_S = 30
SETTINGS = {"budgets": [2900], "checkpoint_every": 700, "keep_checkpoints": 3, "global_batch_size": 6, "precision": "fp32"}


@pytest.fixture(scope="module")
def groups(bucket: ObjectStore) -> Iterator[ZeroGroups]:
    """Groups that were started after the bucket, whose address they inherit."""
    found = ZeroGroups()
    yield found
    found.close()


@pytest.fixture(scope="module")
def root_in_bucket(bucket: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The mirror of this process of a root with a model and shards."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(CACHE, str(tmp_path_factory.mktemp("driver")))
        root = store.mirror_of("s3://studies/runs")
        for folder in (make_model(root), make_shards(root)):
            store.push_folder(folder)
        yield root


def losses(folder: Path) -> list[tuple]:
    return [(m.step, m.loss, m.gradient_norm, m.sample_ids, m.tokens_seen) for m in resume_jobs.steps_after(folder, 0)]


def interval(folder: Path) -> int:
    """The most steps from one checkpoint that a finished run has kept to the next."""
    saved = [manifest.progress.step for _, manifest in checkpoint.committed(folder)]
    return max(later - before for before, later in itertools.pairwise(saved))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(store.fetched_folder(folder / "export") / "model.safetensors")


def brought(root: Path, name: str) -> Path:
    """A run's folder as a driver on another node sees it."""
    bring_run(root / name)
    return root / name


def test_two_ranks_killed_and_moved_to_new_nodes_end_bitwise_where_they_would_on_a_disk(
    root, root_in_bucket, groups, zero_groups, tmp_path
):
    settings = {**SETTINGS, "stage": 2}
    assert groups.of(2).run(resume_jobs.train_run, root, "disk", settings) == [None, None]
    job = (tmp_path / "nodes", resume_jobs.train_and_die, root_in_bucket, "run", settings, 1)
    with pytest.raises(JobError, match="rank 1: died"):
        groups.of(2).run(bucket_jobs.on_own_node, *job)
    # New processes, whose mirrors are empty: all that is left is in the bucket.
    job = (tmp_path / "new-nodes", resume_jobs.train_run, root_in_bucket, "run", settings)
    assert groups.of(2).run(bucket_jobs.on_own_node, *job) == [None, None]
    run = brought(root_in_bucket, "run")
    second = resume_jobs.attempts(run)[-1]
    assert second.attempt == 2
    assert second.resumed
    assert second.first_step > 0
    assert losses(run) == losses(root / "disk")
    ours, theirs = weights(run), weights(root / "disk")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    record = RunRecord.of(run)
    assert record.export_path == "s3://studies/runs/run/export"
    assert record.training.cost.held_out_s == RunRecord.of(root / "disk").training.cost.held_out_s == 0
    kept = [folder.name for folder, _ in checkpoint.committed(run)]
    assert len(kept) == 3  # pruned in the bucket too
    assert {name.split("/")[0] for name in store.sizes(run / "checkpoints")} == set(kept)
    for node in sorted((tmp_path / "new-nodes").iterdir()):
        there = {path.name for path in node.rglob("checkpoints/step-*")}
        assert there == set(kept)  # and on the nodes
    # Each rank fetched its own state only: the other's was never on its node.
    for rank in (0, 1):
        (node,) = (tmp_path / "new-nodes").glob(f"rank-{rank}-*")
        states = {path.name for path in node.rglob("*optim_states.pt")}
        assert states == {f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"}


@pytest.mark.full
def test_credentials_that_expire_in_the_middle_are_named_on_every_rank_and_nothing_is_lost(
    root, root_in_bucket, bucket, groups, zero_groups, tmp_path, record_property
):
    settings, names = {**SETTINGS, "stage": 2}, ("disk-expired", "expired")
    assert zero_groups.of(2).run(resume_jobs.train_run, root, names[0], settings) == [None, None]
    expired: list[float] = []

    def expire() -> None:
        bucket.fail("expired", method="PUT")
        expired.append(time.monotonic())

    soon = _after_a_checkpoint(bucket, names[1], expire)
    job = (tmp_path / "nodes", resume_jobs.train_run, root_in_bucket, names[1], settings)
    refusals = groups.of(2).run(bucket_jobs.on_own_node, *job)
    soon.join()
    said_s = time.monotonic() - expired[0]
    bucket.recover()
    for refusal in refusals:
        assert isinstance(refusal, ArtifactError)
        assert "cannot be written" in refusal.problem
    assert any(refusal.fix.startswith("the credentials have expired: renew them") for refusal in refusals)
    job = (tmp_path / "new-nodes", resume_jobs.train_run, root_in_bucket, names[1], settings)
    assert groups.of(2).run(bucket_jobs.on_own_node, *job) == [None, None]
    run = brought(root_in_bucket, names[1])
    again = resume_jobs.attempts(run)[-1].first_step
    assert again > 0
    assert losses(run) == losses(root / names[0])
    # What the bucket was not sent any more is only in the mirror of the node that did it.
    (first,) = (tmp_path / "nodes").glob(f"rank-0-*/**/{names[1]}/metrics/attempt-0001.jsonl")
    lost = len(first.read_text().splitlines()) - again
    assert 1 <= lost <= 2 * interval(root / names[0])  # since its checkpoint, and the one that was being uploaded
    figures = f"said after {said_s:.1f} s; run again, from the checkpoint at step {again}; {lost} steps lost"
    record_property("credentials expired", figures)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["503", "throttled", "cut"])
def test_a_bucket_that_fails_for_half_a_minute_costs_time_only(
    root, root_in_bucket, bucket, groups, zero_groups, tmp_path, kind, record_property
):
    settings, names = {**SETTINGS, "stage": 2}, (f"disk-{kind}", f"away-{kind}")
    assert zero_groups.of(2).run(resume_jobs.train_run, root, names[0], settings) == [None, None]

    back: list[float] = []

    def away() -> None:
        bucket.fail(kind)
        time.sleep(AWAY_S)
        bucket.recover()
        back.append(time.monotonic())

    soon = _after_a_checkpoint(bucket, names[1], away)
    job = (tmp_path / "nodes", resume_jobs.train_run, root_in_bucket, names[1], settings)
    assert groups.of(2).run(bucket_jobs.on_own_node, *job) == [None, None]
    soon.join()
    assert bucket.failed > 0
    figures = f"done {time.monotonic() - back[0]:.0f} s after the bucket was back; 0 steps lost"
    record_property(f"store fails for {AWAY_S} s: {kind}", figures)
    run = brought(root_in_bucket, names[1])
    assert len(resume_jobs.attempts(run)) == 1
    assert losses(run) == losses(root / names[0])


def _after_a_checkpoint(bucket: ObjectStore, name: str, act: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        while not any(key.endswith("/manifest.json") for key in bucket.keys(f"runs/{name}/checkpoints/")):
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("before", "after", "stage"), [(2, 1, 3), (1, 2, 2)])
@pytest.mark.full  # on a disk: test_resume.py
def test_another_number_of_ranks_converts_through_the_bucket(root, root_in_bucket, groups, tmp_path, before, after, stage):
    settings, name = {**SETTINGS, "stage": stage, "keep_checkpoints": 99}, f"{before}-to-{after}"
    job = (tmp_path / "nodes", resume_jobs.train_and_die, root_in_bucket, name, settings, 2)
    with pytest.raises(JobError, match="died"):
        groups.of(before).run(bucket_jobs.on_own_node, *job)
    job = (tmp_path / "new-nodes", resume_jobs.train_run, root_in_bucket, name, settings)
    assert groups.of(after).run(bucket_jobs.on_own_node, *job) == [None] * after
    run = brought(root_in_bucket, name)
    last = resume_jobs.attempts(run)[-1]
    assert (last.world_size, last.loaded.world_size, last.loaded.converted) == (after, before, True)
    assert last.first_step > 0
    assert any("/universal/manifest.json" in name for name in store.sizes(run / "checkpoints"))
    assert groups.of(after).run(resume_jobs.train_run, root, f"whole-{name}", settings) == [None] * after
    ours, theirs = resume_jobs.steps_after(run, 0), resume_jobs.steps_after(root / f"whole-{name}", 0)
    assert [m.sample_ids for m in ours] == [m.sample_ids for m in theirs]
    assert max(abs(a.loss - b.loss) for a, b in zip(ours, theirs, strict=True)) < 1e-4


def test_a_stop_that_one_rank_hears_of_is_saved_in_the_bucket_by_all(root_in_bucket, groups, tmp_path):
    settings = {**SETTINGS, "stage": 2, "budgets": [400_000], "checkpoint_every": 400_000}
    job = (tmp_path / "nodes", bucket_jobs.train_until_told, root_in_bucket, "stopped", settings)
    stopped = groups.of(2).run(bucket_jobs.on_own_node, *job)
    assert [type(one) for one in stopped] == [TrainingStopped, TrainingStopped]
    ((_, manifest),) = checkpoint.committed(root_in_bucket / "stopped")
    assert manifest.progress.step > 0


@pytest.mark.full  # on a disk: test_resume.py
def test_a_checkpoint_that_was_truncated_in_the_bucket_is_skipped(root_in_bucket, bucket, groups, tmp_path):
    settings = {**SETTINGS, "stage": 2, "keep_checkpoints": 99}
    job = (tmp_path / "nodes", resume_jobs.train_and_die, root_in_bucket, "cut", settings, 2)
    with pytest.raises(JobError, match="died"):
        groups.of(2).run(bucket_jobs.on_own_node, *job)
    found = checkpoint.committed(root_in_bucket / "cut")
    newest, manifest = found[-1]
    entry = next(one for one in manifest.files if one.path.endswith("rank_1_mp_rank_00_optim_states.pt"))
    key = f"{store.address(newest).removeprefix('s3://studies/')}/{entry.path}"
    bucket.put(key, bucket.get(key)[:-1])
    job = (tmp_path / "new-nodes", resume_jobs.train_run, root_in_bucket, "cut", settings)
    assert groups.of(2).run(bucket_jobs.on_own_node, *job) == [None, None]
    last = resume_jobs.attempts(brought(root_in_bucket, "cut"))[-1]
    assert 0 < last.first_step == found[-2][1].progress.step
    assert "bytes, but its manifest says" in last.loaded.skipped[0]
