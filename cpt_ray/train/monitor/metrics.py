"""Measurements of a run while it trains, as JSON lines: steps, events, held-out losses, memory.

Workers write lines to run storage; only the driver talks to MLflow. A restarted run writes a new file, and a reader takes each
step from the newest attempt that reached it.
"""

from __future__ import annotations

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


def read_metrics(run_folder: Path) -> tuple[StepMetrics, ...]:
    """All steps of a run in order, each from the newest attempt that reached it; a truncated last line is skipped."""
    return StepReader(run_folder).read()


class StepReader:
    """Reads the steps of a run that is training, again and again: only what was written since is read and parsed.

    Args:
        run_folder: The run.
        rows: Also keep which rows each step trained on: 70 bytes a row.
    """

    def __init__(self, run_folder: Path, *, rows: bool = True) -> None:
        self._folder, self._rows = run_folder / METRICS, rows
        self._sizes: dict[Path, int] = {}
        self._ends: dict[Path, int] = {}
        """Where the last whole line of each file ends: behind it may be one that was cut short."""
        self._steps: list[StepMetrics] = []
        self._found: tuple[StepMetrics, ...] = ()

    def read(self) -> tuple[StepMetrics, ...]:
        """All steps so far; see `read_metrics`."""
        sizes = {path: path.stat().st_size for path in sorted(self._folder.glob("attempt-*.jsonl"))}
        newest = max(sizes, default=None)
        # Only the newest file grows; but a lost worker may write on, and another node cuts a file to what its store has.
        if any(sizes.get(path, -1) < size or (sizes[path] > size and path != newest) for path, size in self._sizes.items()):
            self._sizes, self._ends, self._steps, self._found = {}, {}, [], ()
        grown = [path for path, size in sizes.items() if size > self._sizes.get(path, 0)]
        self._sizes = sizes
        for path in grown:
            written, self._ends[path] = _lines_from(path, self._ends.get(path, 0))
            for step in map(StepMetrics.from_json, written):
                # A resumed attempt replaces an earlier one's steps beyond the checkpoint that it resumed from.
                while self._steps and self._steps[-1].step >= step.step:
                    self._steps.pop()
                self._steps.append(step if self._rows else step.model_copy(update={"sample_ids": ()}))
        if grown:
            self._found = tuple(self._steps)
        return self._found


def last_steps(run_folder: Path, most: int) -> tuple[StepMetrics, ...]:
    """Up to `most` last steps of a run, from the ends of its files: quick however long the run is."""
    found: list[StepMetrics] = []
    for path in sorted((run_folder / METRICS).glob("attempt-*.jsonl"), reverse=True):
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


def _lines_from(path: Path, start: int) -> tuple[list[bytes], int]:
    """The whole lines of a file from an offset on, and the offset behind them: a last line may be cut short by a kill."""
    with path.open("rb") as stream:
        stream.seek(start)
        *whole, _ = (data := stream.read()).split(b"\n")
    return [line for line in whole if line], start + data.rfind(b"\n") + 1
