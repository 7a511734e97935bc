"""Graphs of tiny studies, and sessions that build without a console, a lease or Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt_ray.config.load import load_study
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.stages.stage import LiveRun, Node
from tests.integration.tiny_study import TinyStudy


def graph_of(study: TinyStudy, *overrides: str) -> StudyGraph:
    """The graph of a study with some settings overridden."""
    return StudyGraph(load_study(study.config, overrides), study.config)


class Lines:
    """A console that records its output."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Record a result."""
        self.said.append(text)

    def step(self, text: str) -> None:
        """Record a completed step."""
        self.said.append(text)

    def warn(self, text: str) -> None:
        """Record a warning."""
        self.said.append(text)

    def progress(self, text: str) -> None:
        """Record nothing: the next line replaces it."""


class BareSession:
    """What a build may use, in this process; requests for Ray are counted but ignored."""

    attempt = 1

    def __init__(self, root: Path) -> None:
        self.root, self.runtime, self.console = root, RuntimeConfig(kind="local"), Lines()
        self.lease_path = root / "lease.json"
        self.asked_for_ray = 0
        self.committed: list[str] = []

    def need_ray(self) -> None:
        """Count the request."""
        self.asked_for_ray += 1

    @contextlib.contextmanager
    def building(self, node: Node[Any, Any]) -> Iterator[None]:
        """Commit the artifact if nothing was raised."""
        started = time.perf_counter()
        node.folder.mkdir(parents=True, exist_ok=True)
        yield
        self.commit(node, started=started)

    def live_run(self, node: Node[Any, Any]) -> LiveRun:
        """Mirror nothing."""
        return LiveRun(node.work.spec, lambda steps: None)

    def commit(self, node: Node[Any, Any], *, started: float) -> None:
        """Commit an artifact."""
        store.commit(node, started=started)
        self.committed.append(node.label)
