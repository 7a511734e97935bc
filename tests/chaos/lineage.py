"""The steps behind the final weights, traced back from a run's end through every resume to the untrained base.

Read only from a run's files: `attempts/`, `metrics/`, the manifests of `checkpoints/` (all kept) and `run.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cpt_ray.records import CheckpointManifest, RunAttempt, RunRecord, ShardManifest, StepMetrics


@dataclass(frozen=True)
class Lineage:
    """The steps behind a run's final weights, oldest first, and the number of lost steps."""

    steps: tuple[StepMetrics, ...]
    resumes: tuple[int, ...]
    """The step from which each attempt in the lineage resumed, oldest first; 0 is the base."""
    in_vain: int
    """Steps of this run (not of its parent) that died with their attempt."""

    @property
    def sample_ids(self) -> list[str]:
        """All rows in training order."""
        return [sample for step in self.steps for sample in step.sample_ids]


def lineage_of(root: Path, run: str) -> Lineage:
    """Trace a finished run back to the base.

    Raises:
        AssertionError: If an attempt lacks a step that it must have done, has it twice, or resumed from a checkpoint that
            was never committed.
    """
    folder = folder_of(root, run)
    record = RunRecord.load(folder / "run.json")
    last = max(attempts_of(folder), key=lambda attempt: attempt.attempt)
    steps, resumes = _follow(root, record, last.attempt, record.training.progress.step)
    own = sum(len(lines) for lines in (steps_of(folder, attempt.attempt) for attempt in attempts_of(folder)))
    first = min(attempt.first_step for attempt in attempts_of(folder))
    return Lineage(tuple(steps), tuple(resumes), own - (record.training.progress.step - first))


def _follow(root: Path, record: RunRecord, attempt: int, upto: int) -> tuple[list[StepMetrics], list[int]]:
    folder = folder_of(root, record.run)
    started = next(found for found in attempts_of(folder) if found.attempt == attempt)
    begin = started.first_step
    done = steps_of(folder, attempt)
    mine = [step for step in done if begin < step.step <= upto]
    assert [step.step for step in mine] == list(range(begin + 1, upto + 1)), (
        f"{record.run}, attempt {attempt}: steps {begin + 1} to {upto} are in the weights, but its file has "
        f"{[step.step for step in mine]}"
    )
    if begin == 0:
        return mine, [0]
    # An attempt resumes from a checkpoint of its run, or, the first time, of the run it branched from.
    parent = record if started.resumed else RunRecord.load(folder_of(root, record.parent) / "run.json")
    older = [
        manifest.attempt
        for manifest in checkpoints_of(folder_of(root, parent.run))
        if manifest.progress.step == begin and (manifest.attempt < attempt or not started.resumed)
    ]
    assert older, f"{record.run}, attempt {attempt}: resumed from step {begin} of {parent.run}, which was never committed"
    before, resumes = _follow(root, parent, max(older), begin)
    return before + mine, [*resumes, begin]


def folder_of(root: Path, run: str) -> Path:
    """The folder of a run."""
    (folder,) = [path for path in root.glob(f"train/{run}-*") if path.name[:-9] == run]
    return folder


def attempts_of(folder: Path) -> list[RunAttempt]:
    """All attempts of a run."""
    return [RunAttempt.load(path) for path in sorted((folder / "attempts").glob("attempt-*.json"))]


def steps_of(folder: Path, attempt: int) -> list[StepMetrics]:
    """The steps of one attempt, surviving or not; a truncated last line is skipped."""
    path = folder / "metrics" / f"attempt-{attempt:04d}.jsonl"
    return [StepMetrics.from_json(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def checkpoints_of(folder: Path) -> list[CheckpointManifest]:
    """All committed checkpoints of a run."""
    return [CheckpointManifest.load(path) for path in folder.glob("checkpoints/*/manifest.json")]


def require_each_row_once_an_epoch(sample_ids: list[str], shards: ShardManifest) -> None:
    """Check that every source's rows form a sequence of whole permutations.

    Raises:
        AssertionError: If a row recurs before all others of its source have occurred.
    """
    for source in {entry.source for entry in shards.shards}:
        rows = [sample.rsplit(":", 1)[1] for sample in sample_ids if sample.rsplit(":", 1)[0] == source]
        epoch = shards.rows(source)
        for start in range(0, len(rows), epoch):
            part = rows[start : start + epoch]
            assert len(part) == len(set(part)), f"source {source}: a row occurs twice within rows {start} to {start + epoch}"
