"""An observer of runs that remembers what it was told."""

from __future__ import annotations

from cpt_ray.records import RunEvent, RunRecord
from cpt_ray.train.monitor.metrics import RunSteps


class Told:
    """A `RunObserver` for tests."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.steps: dict[int, list[int]] = {}
        """By run, how many steps each call had."""
        self.events: list[tuple[int, RunEvent]] = []
        self.records: dict[int, RunRecord] = {}

    def begun(self, place: int) -> None:
        """Remember the start of a run."""
        self.started.append(place)

    def stepped(self, place: int, steps: RunSteps) -> None:
        """Remember the number of steps."""
        self.steps.setdefault(place, []).append(steps.steps)

    def happened(self, place: int, event: RunEvent) -> None:
        """Remember an event."""
        self.events.append((place, event))

    def done(self, place: int, record: RunRecord) -> None:
        """Remember the record of a run."""
        self.records[place] = record
