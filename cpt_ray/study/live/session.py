"""What a stage may use while it builds: the lease, Ray or a pool of processes, the console, and the commit of the result.

One driver at a time holds a study's lease; if it dies, the same command resumes. Ray, or the pool, starts when the first stage
has work for it, and stops with the session.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.lease import FILE as LEASE_FILE
from cpt_ray.edges.lease import hold_lease, require_lease
from cpt_ray.edges.logs import driver_log, log_to
from cpt_ray.edges.packages import needed_for
from cpt_ray.edges.process import process_pool
from cpt_ray.edges.store import address, cache, fetched_folder, forget_unsent, fresh, is_mirrored, lines, listing, push
from cpt_ray.edges.store.conditional import heeds_conditions
from cpt_ray.edges.tracking.moved import ARTIFACTS, DATABASE, lead_here
from cpt_ray.errors import CptRayError
from cpt_ray.records import Artifact
from cpt_ray.study import store
from cpt_ray.study.stages.stage import Console, LiveRun, Node

logger = logging.getLogger(__name__)

FollowRun: TypeAlias = Callable[[Node[Any, Any]], LiveRun]


class Session:
    """A study's work in progress: `with Session(...) as session`.

    Args:
        root: The study's root.
        runtime: Where it runs.
        console: Where it reports progress.
        live_run: Returns what is needed to follow a run while it trains.

    Raises:
        CptRayError: On entering, if the root cannot be written or another driver runs the study.
    """

    def __init__(self, root: Path, runtime: RuntimeConfig, console: Console, live_run: FollowRun) -> None:
        self.root, self.runtime, self.console = root, runtime, console
        self.live_run = live_run
        self.attempt = 0
        self._stack = contextlib.ExitStack()
        self._has_ray = False
        self._pool: Executor | None = None
        self._made: set[Path] = set()
        """Folders of what this command has committed: what they lack, it has just tried."""

    def __enter__(self) -> Self:
        if self.runtime.cache is not None:
            os.environ.setdefault(cache.LIMIT, str(self.runtime.cache))
        store.require_writable(self.root)
        with contextlib.ExitStack() as stack:
            self.attempt = stack.enter_context(hold_lease(self.root)).attempt
            fresh(driver_log(self.root))
            if is_mirrored(self.root):
                fresh(self.root / DATABASE)
                fetched_folder(self.root / ARTIFACTS)
                lead_here(self.root)
            stack.callback(self._send_kept)
            # Before the end too: of a driver that dies with its machine, nothing else is left.
            lines.publish(driver_log(self.root))
            stack.enter_context(log_to(driver_log(self.root), self.console.warn))
            logger.info("attempt %d: %s", self.attempt, " ".join(sys.argv))
            self._stack = stack.pop_all()  # unless something failed, which leaves the study free
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None:
            logger.info("ended with an error", exc_info=error)
        self._stack.__exit__(kind, error, traceback)

    def _send_kept(self) -> None:
        try:
            self._send_kept_files()
        except CptRayError as error:  # the study is done, or its own error is about to be said
            self.console.warn(f"log and MLflow database were not sent: {error.problem}")

    def _send_kept_files(self) -> None:
        if is_mirrored(self.root):
            self.require_lease()
            lines.finish(driver_log(self.root))
            artifacts = self.root / ARTIFACTS
            sent = listing(artifacts)
            made = [
                path for path in artifacts.rglob("*") if path.is_file() and path.relative_to(artifacts).as_posix() not in sent
            ]
            for path in (driver_log(self.root), self.root / DATABASE, *made):
                if path.exists():
                    push(path)

    @property
    def lease_path(self) -> Path:
        """The lease that a commit is checked against."""
        return self.root / LEASE_FILE

    def require_lease(self) -> None:
        """Refuse to write what another driver may have written meanwhile.

        Raises:
            LeaseError: If another driver has taken the study over.
        """
        require_lease(self.lease_path, self.attempt)

    def need_ray(self) -> None:
        """Start or join Ray, once."""
        # On demand: starting a private Ray takes seconds, and most commands find everything built.
        if not self._has_ray:
            # Ray reads part of its environment when it is imported.
            from cpt_ray.edges.ray_runtime import ray_session, sole_driver

            self.console.progress("  starting Ray")
            with needed_for("runtime.kind: ray"):
                self._stack.enter_context(ray_session(self.runtime))
            if is_mirrored(self.root) and not heeds_conditions(self.root):
                self._stack.enter_context(sole_driver(address(self.root)))
            self._has_ray = True

    def unit_pool(self) -> Executor | None:
        """The processes that prepare units: those of Ray (None), or with `runtime.kind: local` a pool, started once."""
        if self.runtime.kind == "ray":
            self.need_ray()
            return None
        if self._pool is None:
            self._pool = self._stack.enter_context(process_pool(self.runtime.units_at_once))
        return self._pool

    def reuse(self, node: Node[Any, Any]) -> Artifact | None:
        """Return a node's artifact if it is complete and lacks nothing, and report that; else None.

        Raises:
            CptRayError: If it contradicts its record, or no longer matches the study.
        """
        found = store.find(node)
        if found is not None and node.folder not in self._made and not store.is_whole(node):
            self.console.step(f"  again   {node.label}, which lacks something")
            return None
        if found is not None:
            self.console.step(f"  reused  {node.label}  (made in {found.wall_s:.0f} s)")
            if node.stage.reuse_check is not None:
                node.stage.reuse_check(node)
        return found

    @contextlib.contextmanager
    def building(self, node: Node[Any, Any]) -> Iterator[None]:
        """Wrap the build of one artifact: create its folder, and commit it if nothing was raised."""
        started = time.perf_counter()
        node.folder.mkdir(parents=True, exist_ok=True)
        if is_mirrored(node.folder):
            forget_unsent(node.folder, listing(node.folder))
        self.console.progress(f"  making  {node.label}")
        yield
        self.commit(node, started=started)

    def commit(self, node: Node[Any, Any], *, started: float) -> None:
        """Write the artifact's record, and report it.

        Args:
            node: The artifact.
            started: `time.perf_counter()` when building it began.
        """
        self.require_lease()
        artifact = store.commit(node, started=started)
        self._made.add(node.folder)
        logger.info("made %s in %.1f s", node.label, artifact.wall_s)
        self.console.step(f"  made    {node.label}  in {artifact.wall_s:.0f} s")
