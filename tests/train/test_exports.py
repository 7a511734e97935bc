"""Exports of trajectory points and for averages: at which step, with which record, and not lost when a run dies."""

from __future__ import annotations

import json
import shutil
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from cpt_ray.edges.store.transfer import INDEX
from cpt_ray.errors import LeaseError
from cpt_ray.records import RunRecord
from cpt_ray.train import exports
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.exports import Exports
from cpt_ray.train.monitor.metrics import read_metrics
from cpt_ray.train.runs.specs import trajectory_specs
from cpt_ray.train.task import averaged_folder, point_folder
from tests.train.tiny_run import run, spec_named, tiny_config, weights


@pytest.fixture(scope="module")
def trunk(root) -> RunRecord:
    """A trunk with two points on its way."""
    return run(root, "legal-trunk", "trunk", trajectory_tokens=[300, 1500])


def test_points_are_exported_at_the_first_step_at_or_past_each_mark(root, trunk):
    config = tiny_config(root, trajectory_tokens=[300, 1500])
    points = trajectory_specs([spec_named(config, "legal-trunk")])
    records = [RunRecord.load(point_folder(root / "trunk", point.stop_tokens) / "run.json") for point in points]
    steps = read_metrics(root / "trunk")
    for record, point in zip(records, points, strict=True):
        assert (record.run, record.kind, record.parent) == (point.name, "trajectory", trunk.run)
        assert record.tokens_seen == next(m.tokens_seen for m in steps if m.tokens_seen >= point.stop_tokens)
        assert (record.annealed, record.budget_tokens, record.tokens_paid) == (False, None, 0)
        assert "none: its learning rate has not decayed" in (Path(str(record.export_path)) / "README.md").read_text()
        described = json.loads((Path(str(record.export_path)) / INDEX).read_text())
        assert "model.safetensors" in described  # so that the driver need not read it
    early, late = (weights(record.export_path) for record in records)
    assert any(not torch.equal(early[name], late[name]) for name in early)
    assert records[0].training.cost.flops < records[1].training.cost.flops == trunk.training.cost.flops


def test_a_point_is_not_lost_when_the_run_dies_before_its_checkpoint(root, trunk):
    """Points are exported before the commit, so that a resumed run passes again any that were not exported."""
    shutil.copytree(root / "trunk", root / "died")
    (root / "died" / "run.json").unlink()
    late = point_folder(root / "died", 1500)
    expected = weights(late / "export")
    shutil.rmtree(late)
    kept = [folder for folder, manifest in checkpoint.committed(root / "died") if manifest.progress.tokens_seen >= 1500]
    assert kept
    for folder in kept:
        shutil.rmtree(folder)
    record = run(root, "legal-trunk", "died", trajectory_tokens=[300, 1500])
    assert len(record.training.attempts) == 2
    assert record.training.first_steps[-1] > 0
    found = weights(late / "export")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert record.run == RunRecord.load(late / "run.json").parent


@pytest.fixture(scope="module")
def branches(root, trunk) -> tuple[RunRecord, RunRecord]:
    """A cooldown, and the same with weights kept for an average."""
    assert trunk.training.progress.tokens_seen >= 1500
    plain = run(root, "legal-2000", "plain", "trunk", trajectory_tokens=[300, 1500])
    return plain, run(root, "legal-2000", "kept", "trunk", average={"last": 3, "every": 200}, trajectory_tokens=[300, 1500])


def test_weights_kept_for_an_average_are_those_of_the_first_step_at_or_past_each_mark(root, branches):
    steps = read_metrics(root / "kept")
    assert sorted(folder.name for folder in (root / "kept" / "average").iterdir()) == ["1600", "1800"]
    first, second = (weights(averaged_folder(root / "kept", mark)) for mark in (1600, 1800))
    assert any(not torch.equal(first[name], second[name]) for name in first)
    # The branch starts where the trunk's step past 1500 ended, which is past 1600: its first model is the trunk's.
    assert branches[1].training.start_tokens > 1600
    trunks = weights(point_folder(root / "trunk", 1500) / "export")
    assert all(torch.equal(trunks[name], first[name]) for name in first)
    assert next(step.tokens_seen for step in steps if step.tokens_seen >= 1800) < steps[-1].tokens_seen  # not the export's step
    assert not (averaged_folder(root / "kept", 1600) / "run.json").exists()


def test_keeping_weights_changes_no_step_and_no_weight(root, branches):
    plain, kept = branches
    ours, theirs = weights(plain.export_path), weights(kept.export_path)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    losses = [[(step.step, step.loss, step.learning_rate) for step in read_metrics(root / name)] for name in ("plain", "kept")]
    assert losses[0] == losses[1]
    assert plain.tokens_paid == kept.tokens_paid > 0
    assert not (root / "plain" / "average").exists()


def test_kept_weights_are_not_lost_when_the_run_dies_before_its_checkpoint(root, branches):
    shutil.copytree(root / "kept", root / "kept-died")
    (root / "kept-died" / "run.json").unlink()
    late = averaged_folder(root / "kept-died", 1800)
    expected = weights(late)
    shutil.rmtree(late)
    for folder, manifest in checkpoint.committed(root / "kept-died"):
        if manifest.progress.tokens_seen >= 1800:
            shutil.rmtree(folder)
    again = {"average": {"last": 3, "every": 200}, "trajectory_tokens": [300, 1500]}
    record = run(root, "legal-2000", "kept-died", "trunk", **again)
    assert len(record.training.attempts) == 2
    found = weights(late)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def slow_export(fails: str) -> tuple[str, int]:
    """An export of rank 0 that takes longer than collectives may, on this rank: what it raised, and how often it waited."""
    group = dist.new_group(timeout=timedelta(seconds=1))
    waits: list[int] = []
    errors = {"not": None, "refused": LeaseError("superseded", fix="none"), "a bug": KeyError("x")}

    def work() -> None:
        time.sleep(3.0)
        if (error := errors[fails]) is not None:
            raise error

    made = Exports.__new__(Exports)
    made._engine, made._on_wait = SimpleNamespace(device=torch.device("cpu")), lambda: waits.append(1)
    world, exports._MEET_S = dist.group.WORLD, 0.2
    dist.distributed_c10d.GroupMember.WORLD = group
    try:
        made._on_rank_0(work)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0], len(waits)
    finally:
        dist.distributed_c10d.GroupMember.WORLD, exports._MEET_S = world, 2.0
    return "done", len(waits)


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("not", ["done", "done"]),
        ("refused", ["LeaseError: superseded"] * 2),
        ("a bug", ["KeyError: 'x'", "RuntimeError: rank 0: KeyError: 'x'"]),
    ],
)
def test_an_export_may_take_longer_than_a_collective_and_its_error_is_known_to_all_ranks(zero_groups, fails, said):
    found = zero_groups.of(2).run(slow_export, fails)
    assert [text for text, _ in found] == said
    assert all(waits > 5 for _, waits in found)
