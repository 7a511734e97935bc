"""Measurements of a run while it trains, as JSON lines: steps, events, held-out losses, memory.

Workers write lines to run storage; only the driver talks to MLflow. A restarted run writes a new file, and a reader takes each
step from the newest attempt that reached it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cpt_ray.edges import store
from cpt_ray.edges.store import lines
from cpt_ray.records import Record, RunAttempt, RunEvent, RunRecord, StepMetrics
from cpt_ray.train.monitor.heartbeat import FOLDER as HEARTBEATS

METRICS = "metrics"
EVENTS = "events"
HELD_OUT = "held_out"
MEMORY = "memory"
ATTEMPTS = "attempts"
_DRIVER = "driver.jsonl"
"""Events that the driver writes: this file has one writer too."""

_TAIL_BYTES = 1 << 20
"""Read from the end of a file of steps, each of which names the rows of its batch."""
_LAST = 10
"""Steps that a reader keeps: enough for a rate."""

_Line = TypeVar("_Line", bound=Record)


_OF_RUN = tuple(f"{folder}/*" for folder in (METRICS, EVENTS, HELD_OUT, MEMORY, ATTEMPTS, HEARTBEATS))


def bring_run(run_folder: Path) -> None:
    """Bring what a run says of itself up to date in this node's mirror; nothing for a folder in no mirror.

    Raises:
        ArtifactError: If the store refuses.
    """
    if store.is_mirrored(run_folder):
        found = store.listing(run_folder)
        lines.join_segments(run_folder, found)
        records = (name for name in found if name == RunRecord.FILE or any(store.matches(name, one) for one in _OF_RUN))
        store.refresh(run_folder, {name: found[name] for name in records if not lines.is_segment(name)})
        for beat in run_folder.glob(f"{HEARTBEATS}/*.json"):
            if f"{HEARTBEATS}/{beat.name}" not in found:
                beat.unlink(missing_ok=True)  # of an earlier attempt with more workers


def clear_run(run_folder: Path) -> None:
    """Before workers start: drop from this node's mirror what a killed worker wrote and did not send.

    Raises:
        ArtifactError: If the store refuses.
    """
    if store.is_mirrored(run_folder):
        found = store.listing(run_folder)
        grown = [name.rpartition("@")[0] for name in found if lines.is_segment(name)]
        store.forget_unsent(run_folder, found, but=(*grown, f"{EVENTS}/{_DRIVER}"))
        lines.cut_to_sent(run_folder, found, but=f"{EVENTS}/{_DRIVER}")
        bring_run(run_folder)


class LineWriter:
    """Appends the records of one attempt; each line is flushed, so a killed worker loses at most the current line."""

    def __init__(self, run_folder: Path, kind: str, attempt: int, *, rank: int | None = None) -> None:
        folder = run_folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        writer = "" if rank is None else f"-rank-{rank:05d}"
        self._path = folder / f"attempt-{attempt:04d}{writer}.jsonl"
        lines.publish(self._path)
        self._stream = self._path.open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        """Append one record."""
        self._stream.write(record.model_dump_json() + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        lines.finish(self._path)


def read_metrics(run_folder: Path, *, rows: bool = True) -> tuple[StepMetrics, ...]:
    """All steps of a run in order; see `walk_steps`."""
    return tuple(walk_steps(run_folder, rows=rows))


def walk_steps(run_folder: Path, *, rows: bool = False) -> Iterator[StepMetrics]:
    """The steps of a run in order, one at a time, each from the newest attempt that reached it; a cut last line is skipped.

    Args:
        run_folder: The run.
        rows: Also say which rows each step trained on: 70 bytes a row.
    """
    for path, border in _attempts(run_folder):
        for step, _ in _steps_of(path, 0, border):
            yield step if rows else step.model_copy(update={"sample_ids": ()})


@dataclass(frozen=True)
class RunSteps:
    """The steps of a run so far: the last ones, and sums over all, in the same memory however many there are."""

    last: tuple[StepMetrics, ...] = ()
    """Without the rows that they trained on."""
    steps: int = 0
    skipped: int = 0
    spikes: int = 0
    attempt: int = 1
    """The newest that made a step."""
    seconds: float = 0.0
    slowest_s: float = 0.0
    data_wait_s: float = 0.0
    tokens: float = 0.0
    """Loss-bearing, by the rate of each step."""
    flops: float = 0.0

    def with_step(self, step: StepMetrics) -> RunSteps:
        """These and one more."""
        return RunSteps(
            last=(*self.last[1 - _LAST :], step),
            steps=self.steps + 1,
            skipped=self.skipped + step.skipped,
            spikes=self.spikes + step.spike,
            attempt=max(self.attempt, step.attempt),
            seconds=self.seconds + step.step_s,
            slowest_s=max(self.slowest_s, step.step_s),
            data_wait_s=self.data_wait_s + step.data_wait_s,
            tokens=self.tokens + step.tokens_per_s * step.step_s,
            flops=self.flops + step.flops,
        )


def sum_steps(run_folder: Path) -> RunSteps:
    """The steps of a run, read once."""
    return StepReader(run_folder).read()


class StepReader:
    """Reads the steps of a run that is training, again and again: only what was written since is read and parsed.

    Args:
        run_folder: The run.
    """

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self._sizes: dict[Path, int] = {}
        self._end = 0
        """Where the last whole line of the newest file ends: behind it may be one that was cut short."""
        self._found = RunSteps()

    def read(self) -> RunSteps:
        """All steps so far."""
        before, sizes = self._sizes, {path: path.stat().st_size for path in _files_of(self._run_folder)}
        if sizes == before:
            return self._found
        newest = max(sizes, default=None)
        changed = {path for path in {*sizes, *before} if sizes.get(path) != before.get(path)}
        # As a rule the newest file grows. But a resumed run takes steps back; a lost worker may write on, and another node cuts
        # a file to what its store has. Then all are read again: sums do not say what they were without the last steps.
        if newest is not None and newest in before and changed == {newest} and self._end and sizes[newest] > before[newest]:
            self._add(newest, self._end, None)
        else:
            self._found, self._end = RunSteps(), 0
            for path, border in _attempts(self._run_folder):
                self._add(path, 0, border)
        self._sizes = sizes
        return self._found

    def _add(self, path: Path, start: int, border: int | None) -> None:
        self._end = start
        for step, self._end in _steps_of(path, start, border):
            self._found = self._found.with_step(step.model_copy(update={"sample_ids": ()}))


def last_steps(run_folder: Path, most: int) -> tuple[StepMetrics, ...]:
    """Up to `most` last steps of a run, from the ends of its files: quick however long the run is."""
    found: list[StepMetrics] = []
    for path in reversed(_files_of(run_folder)):
        size = path.stat().st_size
        written, _ = _lines_from(path, max(0, size - _TAIL_BYTES))
        whole = written if size <= _TAIL_BYTES else written[1:]  # the first may be the end of a line
        before = found[0].step if found else None
        steps = [step for step in map(StepMetrics.from_json, whole) if before is None or step.step < before]
        found = [*steps, *found]
        if len(found) >= most:
            break
    return tuple(found[-most:])


def read_events(run_folder: Path) -> tuple[RunEvent, ...]:
    """Events that led to the run's weights, and every hang; events that a later attempt repeated are left out."""
    driver = run_folder / EVENTS / _DRIVER
    hangs = _read(driver, RunEvent) if driver.exists() else []
    return (*read_lineage(run_folder, EVENTS, RunEvent), *hangs)


def append_driver_event(run_folder: Path, event: RunEvent) -> None:
    """Record an event that only the driver can see."""
    folder = run_folder / EVENTS
    folder.mkdir(parents=True, exist_ok=True)  # the run has no folder before its workers start
    lines.publish(folder / _DRIVER)
    with (folder / _DRIVER).open("a", encoding="utf-8") as stream:
        stream.write(event.model_dump_json() + "\n")


def read_lineage(run_folder: Path, kind: str, record: type[_Line]) -> tuple[_Line, ...]:
    """Records with `attempt` and `step` from all attempts, except those beyond the step at which a later attempt began."""
    starts = {a.attempt: a.first_step for a in map(RunAttempt.load, (run_folder / ATTEMPTS).glob("attempt-*.json"))}
    found: list[_Line] = []
    for path in sorted((run_folder / kind).glob("attempt-*.jsonl")):
        attempt = int(path.stem.split("-")[1])
        end = min((first for later, first in starts.items() if later > attempt), default=None)
        found += [line for line in _read(path, record) if end is None or getattr(line, "step", 0) <= end]
    return tuple(found)


def _read(path: Path, record: type[_Line]) -> list[_Line]:
    return [record.from_json(line) for line in _lines_from(path, 0)[0]]


def _files_of(run_folder: Path) -> list[Path]:
    return sorted((run_folder / METRICS).glob("attempt-*.jsonl"))


def _attempts(run_folder: Path) -> list[tuple[Path, int | None]]:
    """The files of a run's steps in order, each with the step from which on a later one has them: it began at a checkpoint."""
    found: list[tuple[Path, int | None]] = []
    border: int | None = None
    for path in reversed(_files_of(run_folder)):
        found.append((path, border))
        first = next((step.step for step, _ in _steps_of(path, 0, None)), border)
        border = first if border is None or first is None else min(first, border)
    return found[::-1]


def _steps_of(path: Path, start: int, border: int | None) -> Iterator[tuple[StepMetrics, int]]:
    """The steps of a file from an offset on, up to a border, each with the offset behind it."""
    with path.open("rb") as stream:
        stream.seek(start)
        for line in stream:
            if not line.endswith(b"\n"):
                return  # cut short by a kill, or not whole yet
            start += len(line)
            if line != b"\n":
                step = StepMetrics.from_json(line)
                if border is not None and step.step >= border:
                    return
                yield step, start


def _lines_from(path: Path, start: int) -> tuple[list[bytes], int]:
    """The whole lines of a file from an offset on, and the offset behind them: a last line may be cut short by a kill."""
    with path.open("rb") as stream:
        stream.seek(start)
        *whole, _ = (data := stream.read()).split(b"\n")
    return [line for line in whole if line], start + data.rfind(b"\n") + 1
