"""The log files of a study's driver and training workers as one, in the order of their times.

In: a root, which is only read; of a bucket what driver and workers have sent so far, seconds ago at most. Out:
entries, each with the lines that follow its first: a traceback stays whole. Times are those of each host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from cpt_ray.edges import store
from cpt_ray.edges.logs import FOLDER, driver_log
from cpt_ray.edges.store.lines import is_segment, join_segments
from cpt_ray.errors import ConfigError

_HEAD = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")
_RANK = re.compile(r"rank-(\d+)\.log")
_RUNS = "train"
_MOST_BYTES = 16 << 20
"""Read from the end of each file."""
_TRACEBACK = "Traceback (most recent call last)"


Level = Literal["info", "warning", "error"]


class Entry(NamedTuple):
    """What was logged at once."""

    time: str
    level: Level
    source: str
    """`driver`, or run and rank."""
    text: str
    """With its time and level, as it is in the file."""


class LogReader:
    """Reads the log files of a study, again and again: each call returns what was logged since.

    Args:
        root: The study's root.
        worker: Only of training workers of this rank.
        run: Only of workers of runs whose names begin so.
    """

    def __init__(self, root: Path, *, worker: int | None = None, run: str | None = None) -> None:
        self._root, self._worker, self._run = root, worker, run
        self._ends: dict[Path, int] = {}
        self._times: dict[Path, str] = {}

    def read(self) -> list[Entry]:
        """New entries of all files, by time.

        Raises:
            ArtifactError: If a store refuses.
        """
        found = [entry for source, path in self._files() for entry in self._entries(source, path)]
        return sorted(found, key=lambda entry: entry.time)  # stable: entries of a file stay in order

    def require_any(self) -> None:
        """Refuse what no file is of.

        Raises:
            ConfigError: Naming what there is.
        """
        if any(True for _ in self._files()):
            return
        every = LogReader(self._root)
        known = [source for source, _ in every._files()]
        if not known:
            raise ConfigError(
                f"{store.address(self._root)} has no log files yet",
                fix="start the study, or wait a few seconds if it has just begun",
            )
        asked = " and ".join(
            [*([f"rank {self._worker}"] if self._worker is not None else []), *([f"run {self._run}"] if self._run else [])]
        )
        raise ConfigError(
            f"{store.address(self._root)} has no log of {asked}", fix=f"there are those of {', '.join(known[:6])}"
        )

    def _files(self) -> Iterator[tuple[str, Path]]:
        if self._worker is None and self._run is None:
            driver = bring_driver_log(self._root)
            if driver.exists():
                yield "driver", driver
        if store.is_mirrored(self._root):
            self._bring_workers()
        for path in sorted((self._root / _RUNS).glob(f"*/{FOLDER}/rank-*.log")):
            rank, run = _RANK.fullmatch(path.name), path.parents[1].name[:-9]
            chosen = self._worker in (None, int(rank[1]) if rank else None) and run.startswith(self._run or "")
            if rank and chosen:
                yield f"{run} rank {int(rank[1])}", path

    def _bring_workers(self) -> None:
        runs = self._root / _RUNS
        found = {name: one for name, one in store.listing(runs).items() if f"/{FOLDER}/" in name}
        join_segments(runs, found)
        store.refresh(runs, {name: one for name, one in found.items() if not is_segment(name)})

    def _entries(self, source: str, path: Path) -> list[Entry]:
        size = path.stat().st_size
        start = self._ends.get(path, max(0, size - _MOST_BYTES))
        if size < start:  # written anew
            start = 0
        with path.open("rb") as stream:
            stream.seek(start)
            data = stream.read()
        end = data.rfind(b"\n") + 1  # the last line may not be whole yet
        self._ends[path] = start + end
        found: list[list[str]] = []
        for line in data[:end].decode("utf-8", "replace").splitlines():
            if _HEAD.match(line) or not found:
                found.append([])
            found[-1].append(line)
        return [self._entry(source, path, lines) for lines in found]

    def _entry(self, source: str, path: Path, lines: Sequence[str]) -> Entry:
        head = _HEAD.match(lines[0])
        if head:
            self._times[path] = head[1]
        text = "\n".join(lines)
        failed = _TRACEBACK in text or (head is not None and head[2] in ("ERROR", "CRITICAL"))
        level: Level = "error" if failed else "warning" if head is not None and head[2] == "WARNING" else "info"
        return Entry(self._times.get(path, ""), level, source, text)


def bring_driver_log(root: Path) -> Path:
    """The log of a study's driver, after what this process's mirror lacks of it was fetched."""
    path = driver_log(root)
    if store.is_mirrored(path):
        found = store.listing(path.parent)
        if not path.exists():
            store.fetched(path)  # what the last command that ended has left, which segments go on from
        join_segments(path.parent, found)
    return path


def last_entries(entries: Sequence[Entry], most: int) -> list[Entry]:
    """The last ones."""
    return list(entries[-most:]) if most > 0 else []


def errors_first(entries: Sequence[Entry], most: int) -> list[Entry]:
    """The last errors, then as many of the last warnings as there is room for."""
    errors = last_entries([entry for entry in entries if entry.level == "error"], most)
    return errors + last_entries([entry for entry in entries if entry.level == "warning"], most - len(errors))
