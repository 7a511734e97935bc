"""The lineage of final weights, on handmade files: what it traces, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_ray.records import CheckpointManifest, RunAttempt, RunProgress, RunRecord, StateFigures, StepMetrics
from tests.chaos import lineage
from tests.chaos.lineage import lineage_of
from tests.run_records import training


class Written:
    """Runs with attempts and checkpoints given by the test."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.ends = root, {}
        monkeypatch.setattr(lineage.RunRecord, "load", lambda path: self.ends[path.parent.name[:-9]])

    def run(self, name: str, *, steps: int, parent: str | None = None) -> None:
        ended = training(100, progress=RunProgress(step=steps))
        self.ends[name] = RunRecord(
            run=name, kind="cooldown", model="m", parent=parent, export_path=None, annealed=True, training=ended
        )
        (self.root / "train" / f"{name}-00000000").mkdir(parents=True)

    def attempt(self, run: str, number: int, *, first: int, did: list[int], resumed: bool) -> None:
        folder = self.root / "train" / f"{run}-00000000"
        attempt = RunAttempt(
            attempt=number, first_step=first, resumed=resumed, world_size=1, worker_pids=(1,), kernel="sdpa",
            peak_flops_per_s=1.0, self_test=None,
        )  # fmt: skip
        (folder / "attempts").mkdir(exist_ok=True)
        (folder / "attempts" / f"attempt-{number:04d}.json").write_text(attempt.to_json())
        lines = [
            StepMetrics(
                attempt=number, step=step, tokens_seen=step, loss=1.0, learning_rate=1.0, gradient_norm=1.0, tokens_per_s=1.0,
                step_s=1.0, data_wait_s=0.0, mfu=None, sample_ids=(f"law:{step}",),
            ).model_dump_json() + "\n"
            for step in did
        ]  # fmt: skip
        (folder / "metrics").mkdir(exist_ok=True)
        (folder / "metrics" / f"attempt-{number:04d}.jsonl").write_text("".join(lines))

    def commit(self, run: str, attempt: int, step: int) -> None:
        folder = self.root / "train" / f"{run}-00000000" / "checkpoints" / f"step-{step:08d}-a{attempt}"
        manifest = CheckpointManifest(
            run=run, attempt=attempt, progress=RunProgress(step=step, position=step, tokens_seen=step), world_size=1,
            zero_stage=2, precision="fp32", global_batch_size=1, run_fingerprint="f", data_fingerprint="f", files=(),
            versions={}, created="",
            figures=StateFigures(loss=1, weights_norm=1, moments={"exp_avg": 1, "exp_avg_sq": 1}, optimizer_steps=1),
        )  # fmt: skip
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(manifest.to_json())


@pytest.fixture
def written(tmp_path, monkeypatch) -> Written:
    return Written(tmp_path, monkeypatch)


def test_a_killed_attempt_counts_up_to_the_checkpoint_that_the_next_one_went_on_from(written):
    written.run("a", steps=6)
    written.attempt("a", 1, first=0, did=[1, 2, 3, 4], resumed=False)
    written.commit("a", 1, 2)
    written.attempt("a", 2, first=2, did=[], resumed=True)  # killed before its first step
    written.attempt("a", 3, first=2, did=[3, 4, 5, 6], resumed=True)
    found = lineage_of(written.root, "a")
    assert [(step.step, step.attempt) for step in found.steps] == [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (6, 3)]
    assert (found.resumes, found.in_vain) == ((0, 2), 2)
    assert found.sample_ids == [f"law:{step}" for step in range(1, 7)]


def test_a_branch_goes_back_through_its_trunk(written):
    written.run("trunk", steps=5)
    written.attempt("trunk", 1, first=0, did=[1, 2, 3, 4], resumed=False)
    written.commit("trunk", 1, 3)
    written.attempt("trunk", 2, first=3, did=[4, 5], resumed=True)
    written.commit("trunk", 2, 5)
    written.run("a", steps=5, parent="trunk")
    written.attempt("a", 1, first=3, did=[4, 5], resumed=False)
    assert [(step.step, step.attempt) for step in lineage_of(written.root, "a").steps] == [
        (1, 1), (2, 1), (3, 1), (4, 1), (5, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("did", "resumed_from", "committed", "message"),
    [
        ([3, 5, 6], 2, 2, r"a, attempt 2: steps 3 to 6 are in the weights, but its file has \[3, 5, 6\]"),
        ([3, 4, 4, 5, 6], 2, 2, r"its file has \[3, 4, 4, 5, 6\]"),
        ([3, 4, 5, 6], 2, 1, "resumed from step 2 of a, which was never committed"),
    ],
    ids=["a step is missing", "a step was done twice", "the checkpoint was never committed"],
)
def test_weights_that_saw_a_position_twice_or_never_are_found_out(written, did, resumed_from, committed, message):
    written.run("a", steps=6)
    written.attempt("a", 1, first=0, did=[1, 2], resumed=False)
    written.commit("a", 1, committed)
    written.attempt("a", 2, first=resumed_from, did=did, resumed=True)
    with pytest.raises(AssertionError, match=message):
        lineage_of(written.root, "a")
