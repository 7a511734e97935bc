"""The reports of a stage's units: summed as they arrive, with their files as columns.

Between `run_stage` and the code of the driver (`pipeline`, `duplicates`, `merge`, `filter`). A report is 13 kB as a record, and
there may be 10^5 of them in each stage; what the driver asks of them are sums by source, a few samples, and paths. Memory:
about 100 bytes per file of a unit and 8 per count; three samples per source and reason. At its end a stage leaves the list of
its files in `units/STAGE.arrow` (`UnitFile`), so that neither later stages nor the artifact's record read the reports again.

Guarantee: everything here depends on the reports and the order of the tasks, not on the order in which they arrived.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.data.run.units import Samples, UnitContext, UnitTask, report_entry, unit_report
from cpt_ray.edges import storage, store
from cpt_ray.records import (
    DocumentKey,
    FileEntry,
    RepeatedIds,
    ShownDocument,
    StageReport,
    UnitFileTable,
    UnitReport,
)

BySource: TypeAlias = Literal["encodings", "fields", "languages", "redacted", "invisible"]
"""What reports count that belongs to the source of their unit."""
_COUNTED: tuple[BySource, ...] = ("encodings", "fields", "languages", "redacted", "invisible")
_BATCH = 4096
_SUMMED = 100
_REPORT = "report"
"""The kind of the reports themselves, among a stage's files."""


class UnitReports(Sequence[UnitReport]):
    """What the units of a stage reported; as a sequence, the reports one by one, each read from its file.

    Args:
        stage: The stage.
        tasks: Its units, in canonical order.
        context: Their folder and settings.
    """

    def __init__(self, stage: str, tasks: Sequence[UnitTask], context: UnitContext) -> None:
        self._stage, self._root = stage, context.root
        # Not the tasks themselves, which take 1.5 kB each and end with their stage.
        self.units = [task.unit for task in tasks]
        self.sources = [task.source for task in tasks]
        self._places = {unit: place for place, unit in enumerate(self.units)}
        self._prepare = context.prepare.model_copy(update={"keep_dropped": False})
        self._done = bytearray(len(tasks))
        self.num_done = 0
        """Units that have reported."""
        self._pids: set[int] = set()
        self._summed: dict[tuple[str, str], list[StageReport]] = {}
        self._samples: dict[tuple[str, str], Samples] = {}
        self._first: dict[tuple[str, str], tuple[int, int]] = {}
        self._counted: dict[str, dict[str, Counter[str]]] = {name: {} for name in _COUNTED}
        self._counts: dict[str, npt.NDArray[np.int64]] = {}
        self._rows: list[tuple[int, str, str, FileEntry]] = []
        self._batches: list[tuple[npt.NDArray[np.int64], pa.RecordBatch]] = []
        self.component_sizes: Counter[str] = Counter()
        self.repeated_ids: dict[str, RepeatedIds] = {}
        self.shown: list[ShownDocument] = []

    @classmethod
    def of(cls, stage: str, tasks: Sequence[UnitTask], context: UnitContext, reports: Iterable[UnitReport]) -> Self:
        """Sum reports that are all there, as a stage does at its end."""
        found = cls(stage, tasks, context)
        for report in reports:
            found.add(report)
        found.save()
        return found

    def add(self, report: UnitReport, text: str | None = None) -> None:
        """Add the report of a unit; each once.

        Args:
            report: What the unit reported.
            text: The same as JSON, where it is at hand.
        """
        place = self._places[report.unit]
        self._done[place] = 1
        self.num_done += 1
        self._pids.add(report.pid)
        for number, found in enumerate(report.reports):
            key = (found.stage, found.source)
            summed = self._summed.setdefault(key, [])
            summed.append(found)
            if len(summed) == _SUMMED:  # one by one, adding would be half of the driver's time
                summed[:] = [StageReport.total(summed)]
            self._first[key] = min(self._first.get(key, (place, number)), (place, number))
        for sample in report.samples:
            key = (sample["stage"], sample["source"])
            self._first.setdefault(key, (place, len(report.reports)))
            name = DocumentKey(sample["identity"], sample["id"])
            self._samples.setdefault(key, Samples(*key, self._prepare)).add(sample["reason"], name, sample["text"])
        for field in _COUNTED:
            if counts := getattr(report, field):
                self._counted[field].setdefault(self.sources[place], Counter()).update(counts)
        for count, value in report.counts.items():
            if count not in self._counts:
                self._counts[count] = np.zeros(len(self), dtype=np.int64)
            self._counts[count][place] = value
        self.component_sizes.update(report.component_sizes)
        for source, repeated in report.repeated_ids.items():
            self.repeated_ids[source] = self.repeated_ids.get(source, RepeatedIds()) + repeated
        self.shown.extend(report.shown)
        self._keep_files(place, report, text or report.to_json())

    def _keep_files(self, place: int, report: UnitReport, text: str) -> None:
        for kind, entries in report.outputs.items():
            self._rows.extend((place, report.unit, kind, entry) for entry in entries)
        self._rows.append((place, report.unit, _REPORT, report_entry(report, text)))
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            places, units, kinds, entries = zip(*self._rows, strict=True)
            self._batches.append((np.array(places, dtype=np.int64), UnitFileTable.of_units(units, kinds, entries)))
            self._rows.clear()

    def has(self, unit: str) -> bool:
        """Whether a unit has reported."""
        return bool(self._done[self._places[unit]])

    def __len__(self) -> int:
        return len(self.units)

    @overload
    def __getitem__(self, index: int) -> UnitReport: ...

    @overload
    def __getitem__(self, index: slice) -> list[UnitReport]: ...

    def __getitem__(self, index: int | slice) -> UnitReport | list[UnitReport]:
        if isinstance(index, slice):
            return [unit_report(self._root, self._stage, unit) for unit in self.units[index]]
        return unit_report(self._root, self._stage, self.units[index])

    @functools.cached_property
    def table(self) -> UnitFileTable:
        """The files of all units, in the order of the tasks; asked for once all have reported."""
        self._flush()
        places = np.concatenate([np.empty(0, dtype=np.int64), *(places for places, _ in self._batches)])
        joined = UnitFileTable.joined([batch for _, batch in self._batches])
        self._batches.clear()
        return joined.take(np.argsort(places, kind="stable"))

    def save(self) -> None:
        """Leave the files of all units in the artifact's folder; from there they are mapped."""
        path = _index(self._root, self._stage)
        with storage.atomic_path(path) as temporary:
            self.table.write(temporary)
        self.table = UnitFileTable.load(path)

    def files(self, kind: str) -> UnitFileTable:
        """The files of a kind, of all units, in the order of the tasks."""
        return self.table.of_kind(kind)

    def paths(self, kind: str) -> list[str]:
        """The path of each unit's only file of a kind, in the order of the tasks.

        Raises:
            ValueError: If a unit has none or several.
        """
        found = self.files(kind)
        if len(found) != len(self) or pc.count_distinct(found.arrow("unit")).as_py() != len(self):
            raise ValueError(f"stage {self._stage}: not every unit has one file of kind {kind!r}")
        paths: list[str] = found.arrow("path").to_pylist()
        return paths

    def counts(self, name: str) -> npt.NDArray[np.int64]:
        """A count of each unit, int64[units]; 0 where a unit did not report it."""
        return self._counts.get(name, np.zeros(len(self), dtype=np.int64))

    def total(self, name: str) -> int:
        """The sum of a count over all units."""
        return int(self.counts(name).sum())

    def by_source(self, field: BySource) -> dict[str, dict[str, int]]:
        """Counts by source, most frequent first; sources without are left out."""
        found = self._counted[field]
        sources = [source for source in dict.fromkeys(self.sources) if source in found]
        return {source: dict(sorted(found[source].items(), key=lambda item: (-item[1], item[0]))) for source in sources}

    @property
    def reports(self) -> list[StageReport]:
        """One per stage and source, summed, in the order of first appearance."""
        return [StageReport.total(self._summed[key]) for key in sorted(self._summed, key=self._first.__getitem__)]

    @property
    def samples(self) -> list[dict[str, str]]:
        """At most three dropped documents per stage, source and reason."""
        keys = sorted(self._samples, key=self._first.__getitem__)
        return [record for key in keys for record in self._samples[key].records()]

    @property
    def pids(self) -> tuple[int, ...]:
        """The distinct processes that ran the tasks, ascending."""
        return tuple(sorted(self._pids))


def _index(root: Path, stage: str) -> Path:
    return root / "units" / f"{stage}.arrow"


def unit_paths(folder: Path, stage: str, kind: str, units: Sequence[str]) -> list[str]:
    """The paths of the units' only files of a kind, relative to the folder of a finished artifact.

    Raises:
        ArtifactError: If a unit has no readable report.
    """
    index = store.fetched(_index(folder, stage))
    if not index.is_file():  # written unit by unit, not by `run_stage`
        return [unit_report(folder, stage, unit).path(kind) for unit in units]
    found = UnitFileTable.load(index).of_kind(kind)
    paths: Mapping[str, str] = dict(zip(found.arrow("unit").to_pylist(), found.arrow("path").to_pylist(), strict=True))
    return [paths[unit] for unit in units]
