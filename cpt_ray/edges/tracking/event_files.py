"""Curves for TensorBoard: an event file per run below the root, which grows with the run.

    ROOT/tensorboard/RUN-FP/events.out.tfevents.*     tensorboard --logdir ROOT/tensorboard

In: all points of a run. Guarantee: the file holds exactly these, each once, however often a command was killed: what it has is
read from the file itself, a record that was cut short is dropped, and a file whose points were not what led to the weights,
because a resumed run did steps again, is emptied for a new one.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from cpt_ray.edges import store
from cpt_ray.edges.storage import unwritable
from cpt_ray.edges.tracking.curves import CurvePoint
from cpt_ray.edges.tracking.event_format import read_records, read_scalar, record, scalar_event, start_event, version_event

FOLDER = "tensorboard"
_NAME = "events.out.tfevents"
_Curves = dict[str, list[tuple[int, float]]]


class EventFiles:
    """The event files of a study; a `CurvePlace`.

    Args:
        root: The study's root.
    """

    takes_back = True

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._open: dict[str, _EventFile] = {}

    def write(self, run: str, key: str, points: Sequence[CurvePoint]) -> None:  # noqa: ARG002
        """Write what is missing of a run's points.

        Raises:
            ArtifactError: If the file cannot be written.
        """
        if run not in self._open:
            self._open[run] = _EventFile(self._folder / run)
        self._open[run].write(points)

    def close(self, *, failed: bool) -> None:
        """Nothing is held open."""


class _EventFile:
    """The event file of a run, and what is in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        store.fetched_folder(folder)
        self._path = max(folder.glob(f"{_NAME}.*"), default=None)
        self._curves: _Curves = {} if self._path is None else _read(self._path)

    def write(self, points: Sequence[CurvePoint]) -> None:
        wanted: dict[str, list[CurvePoint]] = {}
        for point in points:
            wanted.setdefault(point.key, []).append(point)
        if self._path is not None and not self._continues(wanted):
            self._curves = {}
            self._replace(points)
            return
        missing = [point for key, curve in wanted.items() for point in curve[len(self._curves.get(key, ())) :]]
        if not missing:
            return
        if self._path is None:
            self._replace(points)
            return
        try:
            with self._path.open("ab") as stream:
                stream.write(b"".join(map(_record, missing)))
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._remember(missing)
        store.push(self._path)

    def _continues(self, wanted: dict[str, list[CurvePoint]]) -> bool:
        return all(
            len(curve) <= len(wanted.get(key, ())) and curve == [_rounded(point) for point in wanted[key][: len(curve)]]
            for key, curve in self._curves.items()
        )

    def _replace(self, points: Sequence[CurvePoint]) -> None:
        """Write a new file, visible whole, in place of the one before it.

        That one is emptied and deleted by the next: a TensorBoard that follows it would not find its way from a deleted file.
        """
        old = sorted(self._folder.glob(f"{_NAME}.*"))
        # The time of writing: TensorBoard reads the files of a folder in the order of their names.
        path = self._folder / f"{_NAME}.{time.time_ns()}.cpt-ray"
        temporary = path.with_name(f".{time.time_ns()}.tmp")
        first_s = min((point.time_s for point in points), default=time.time())
        data = b"".join([record(version_event(first_s)), record(start_event(first_s)), *map(_record, points)])
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, path)
            store.push(path)
            for one in old[:-1]:
                store.remove(one)
                one.unlink()
            for one in old[-1:]:
                os.truncate(one, 0)
                store.push(one)
        except OSError as error:
            raise unwritable(path, error) from error
        self._path = path
        self._remember(points)

    def _remember(self, points: Iterable[CurvePoint]) -> None:
        for point in points:
            self._curves.setdefault(point.key, []).append(_rounded(point))


def _record(point: CurvePoint) -> bytes:
    return record(scalar_event(point.key, point.tokens, point.value, point.time_s))


def _rounded(point: CurvePoint) -> tuple[int, float]:
    """Tokens and value as a file has them, in 32 bits."""
    return point.tokens, struct.unpack("<f", struct.pack("<f", point.value))[0]


def _read(path: Path) -> _Curves:
    """The curves of a file, from which a record that was cut short is dropped."""
    data, end, found = path.read_bytes(), 0, _Curves()
    for event, end in read_records(data):  # noqa: B007
        if (scalar := read_scalar(event)) is not None:
            found.setdefault(scalar[0], []).append(scalar[1:])
    if end < len(data):
        os.truncate(path, end)
    return found
