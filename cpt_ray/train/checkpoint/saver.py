"""The loop's checkpoints: when one is due or requested, the engine's state, its manifest, and the background upload."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch.distributed as dist

from cpt_ray.edges.packages import versions
from cpt_ray.errors import TrainingStopped
from cpt_ray.records import CheckpointManifest, RunProgress
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.checkpoint.snapshot import Snapshots
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.shutdown import AskPreemption, Request, Requests
from cpt_ray.train.task import TrainTask

logger = logging.getLogger(__name__)


class Saver:
    """The checkpoints of one start of a run; every call is collective.

    Args:
        task: The run.
        engine: The engine whose state is saved.
        attempt: Number of this start of the run.
        vocabulary_size: The ids of the state guard's fixed row are drawn below it.
        stop_wanted: Whether the driver has told this worker that it wants a stop.
        ask_preemption: Reports whether a node will be preempted.
        before_save: Called before each save, for work that a run resumed from the checkpoint will not repeat.
    """

    def __init__(
        self,
        task: TrainTask,
        engine: Engine,
        *,
        attempt: int,
        vocabulary_size: int,
        stop_wanted: Callable[[], bool],
        ask_preemption: AskPreemption | None,
        before_save: Callable[[RunProgress], None],
    ) -> None:
        self._task, self._engine, self._before_save = task, engine, before_save
        self._attempt, self._vocabulary_size = attempt, vocabulary_size
        self._snapshots = Snapshots(
            Path(task.run_folder),
            task.scratch,
            rank=dist.get_rank(),
            world_size=dist.get_world_size(),
            attempt=attempt,
            keep=task.settings.train.keep_checkpoints,
            keep_tokens=task.spec.branch_tokens,
            may_commit=task.require_lease,
        )
        self._requests = Requests(
            stop_wanted,
            ask_preemption=ask_preemption,
            upload_failed=lambda: self._snapshots.failed,
            on_failed_upload=self._fail,
            device=engine.device,
            lag=engine.lag,
        )
        self._request: Request | None = None
        self._reason = "interval"

    def requested(self) -> Request | None:
        """The request to all ranks after this step."""
        self._request = self._requests()
        return self._request

    def due(self, before: RunProgress, after: RunProgress) -> bool:
        """Whether `after` is the first step past an interval or a branch point; a budget's end is exported instead."""
        spec, every = self._task.spec, self._task.settings.train.checkpoint_every
        self._reason = "branch" if _passes(spec.branch_tokens, before, after) else "interval"
        marks = (*spec.branch_tokens, *spec.trajectory_tokens, *spec.average_tokens)
        if _passes(marks, before, after):
            return True
        if after.tokens_spent >= spec.stop_tokens:
            return False
        return before.tokens_spent // every < after.tokens_spent // every

    def save(self, progress: RunProgress) -> None:
        """Save; a requested checkpoint is committed when this returns, the others in the background."""
        self._before_save(progress)
        started = time.perf_counter()
        request, self._request = self._request, None
        self._snapshots.save(
            self._engine.save,
            self._manifest(progress),
            expected_bytes=self._engine.state_bytes,
            reason=request or self._reason,
            started=started,
        )
        if request is not None:
            self._snapshots.drain()
            self._compare_with_notice(time.perf_counter() - started)

    def drain(self) -> None:
        """Wait until everything saved is committed."""
        self._snapshots.drain()

    def stop_before_training(self, progress: RunProgress) -> None:
        """End before the first step if a stop has already been requested.

        Raises:
            TrainingStopped: On every rank.
        """
        if self._requests() == "stop":
            raise stopped_at(self._task.spec.name, progress)

    def _fail(self) -> None:
        self._snapshots.give_up()
        self._snapshots.drain()
        raise RuntimeError("a rank reported a failed upload, but no rank has an error")

    def _compare_with_notice(self, took_s: float) -> None:
        notice = self._requests.preemption
        if notice is None or notice.deadline is None or dist.get_rank() != 0:
            return
        left = notice.deadline - time.time()
        if left < 0:
            logger.warning(
                "the checkpoint took %.0f s and was committed %.0f s after nodes %s were due to be removed: the notice is too "
                "short; set runtime.scratch to a faster disk",
                took_s,
                -left,
                ", ".join(notice.nodes),
            )

    def _manifest(self, progress: RunProgress) -> CheckpointManifest:
        return CheckpointManifest(
            run=self._task.spec.name,
            attempt=self._attempt,
            progress=progress,
            world_size=dist.get_world_size(),
            zero_stage=self._engine.zero_stage,
            precision=self._task.settings.train.precision,
            global_batch_size=self._task.settings.train.global_batch_size,
            run_fingerprint=self._task.fingerprint,
            data_fingerprint=self._task.data_fingerprint,
            figures=self._engine.state_figures(self._vocabulary_size),
            versions=versions("torch", "deepspeed", "transformers"),
            files=(),
            created=checkpoint.now(),
        )


def _passes(marks: Iterable[int], before: RunProgress, after: RunProgress) -> bool:
    return any(before.tokens_spent < mark <= after.tokens_spent for mark in marks)


def stopped_at(run: str, progress: RunProgress) -> TrainingStopped:
    """The error for a run that saved and ended because a stop was requested."""
    return TrainingStopped(
        f"{run}: stopped at step {progress.step}, {progress.tokens_seen} tokens, saved",
        fix="re-run the same command to resume",
    )
