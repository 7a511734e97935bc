"""Two simulated nodes: a group that shrinks and grows with them, and one that gets notice of a node's preemption."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from cpt_ray.records import CheckpointTimes, RunAttempt, RunRecord
from tests.chaos.cluster import SimulatedCluster
from tests.chaos.disturbed import Disturbed, WatchedRun, run_disturbed
from tests.chaos.lineage import Lineage, attempts_of, folder_of, lineage_of, steps_of
from tests.integration.tiny_study import TinyStudy, write_tiny_study

pytestmark = [pytest.mark.slow, pytest.mark.full, pytest.mark.timeout(1800)]

RUN = "tiny-legal-400000-seed0"
OVERRIDES = (
    "train.budgets=[400000]",
    "train.checkpoint_every=2000",
    "train.keep_checkpoints=9999",
    "runtime.max_failures=9",
    "runtime.resize_interval=5",
)
ELASTIC = (*OVERRIDES, "runtime.workers={min: 1, max: 2}")
NEAR, STEPS = 5e-4, 10
"""Largest loss difference per step in the first steps after the first resize. Later, training amplifies rounding."""


def one_arm(folder: Path) -> TinyStudy:
    """A study with one run of about a minute."""
    study = write_tiny_study(folder)
    study.change(arms={"legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}, "max_epochs": 99}})
    return study


def newest_attempt(study: TinyStudy) -> tuple[RunAttempt, int] | None:
    """The newest attempt of the run and its number of steps."""
    folders = list(study.root.glob(f"train/{RUN}-*"))
    attempts = attempts_of(folders[0]) if folders else []
    return (attempts[-1], len(steps_of(folders[0], attempts[-1].attempt))) if attempts else None


def trains_with(study: TinyStudy, workers: int, *, since: int, steps: int = 20) -> bool:
    """Whether `workers` workers, started after attempt `since`, have done `steps` steps."""
    found = newest_attempt(study)
    return found is not None and found[0].attempt > since and found[0].world_size == workers and found[1] >= steps


def checkpoint_reasons(root: Path) -> list[str]:
    paths = sorted(folder_of(root, RUN).glob("metrics/checkpoints-*.jsonl"))
    return [CheckpointTimes.from_json(line).reason for path in paths for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    study = one_arm(tmp_path_factory.mktemp("quiet"))
    with SimulatedCluster(nodes=2) as cluster:
        run_disturbed(study, cluster, overrides=OVERRIDES)
    return lineage_of(study.root, RUN)


def ended(run: WatchedRun) -> Disturbed:
    while not run.look():
        pass
    return run.done


def require_equal(study: TinyStudy, quiet: Lineage) -> Lineage:
    found = lineage_of(study.root, RUN)
    assert found.sample_ids == quiet.sample_ids
    assert [step.tokens_seen for step in found.steps] == [step.tokens_seen for step in quiet.steps]
    gaps = [abs(a.loss - b.loss) for a, b in zip(found.steps, quiet.steps, strict=True)]
    resized = found.resumes[1]
    assert max(gaps[: resized + STEPS]) <= NEAR
    ends = [statistics.fmean(step.loss for step in lineage.steps[-200:]) for lineage in (found, quiet)]
    assert ends[0] == pytest.approx(ends[1], rel=0.01)
    return found


def test_a_group_shrinks_when_a_node_is_lost_and_grows_when_it_is_back(tmp_path, quiet):
    study = one_arm(tmp_path)
    with SimulatedCluster(nodes=2) as cluster:
        run = WatchedRun(study, cluster, overrides=ELASTIC, hang_s=300)
        run.start_driver()
        try:
            run.wait_until(lambda: trains_with(study, 2, since=0), "two workers trained")
            before = newest_attempt(study)[0].attempt
            cluster.kill(1)
            run.wait_until(lambda: trains_with(study, 1, since=before), "one worker continued")
            before = newest_attempt(study)[0].attempt
            cluster.add(1)
            run.wait_until(lambda: trains_with(study, 2, since=before), "two workers were back")
            done = ended(run)
        finally:
            run.end()
    assert done.ended_by_themselves == []
    found = require_equal(study, quiet)
    record = RunRecord.load(folder_of(study.root, RUN) / "run.json")
    sizes = [
        size
        for number, size in enumerate(record.training.world_sizes)
        if number == 0 or size != record.training.world_sizes[number - 1]
    ]
    assert sizes == [2, 1, 2]
    starts = attempts_of(folder_of(study.root, RUN))
    assert any(start.loaded is not None and start.loaded.converted for start in starts)
    assert len(found.resumes) >= 3


def test_a_notice_that_a_node_will_go_is_answered_by_a_checkpoint(tmp_path, quiet):
    study = one_arm(tmp_path)
    with SimulatedCluster(nodes=2) as cluster:
        run = WatchedRun(study, cluster, overrides=(*ELASTIC, "train.checkpoint_every=1000000"), hang_s=300)
        run.start_driver()
        try:
            run.wait_until(lambda: trains_with(study, 2, since=0), "two workers trained")
            cluster.drain(1)
            run.wait_until(lambda: "preemption" in checkpoint_reasons(study.root), "the notice was answered")
            cluster.kill(1)
            ended(run)
        finally:
            run.end()
    found = require_equal(study, quiet)
    assert found.resumes[-1] > 0, "the only checkpoint to resume from was the notice's"
