"""Start workers under Ray Train, or in this process, for a list of runs, and watch them from the driver.

One group of workers trains all runs, one after another: starting a group costs tens of seconds, a run in a group that stands
only its model and its engine. Ray Train restarts the whole group when a worker dies; the workers then skip finished runs and
find the newest committed checkpoint of the next one themselves. The driver reads progress from run storage, so it sees the same
whatever node the workers are on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from cpt_ray.config.runtime import RuntimeConfig
from cpt_ray.config.watch import WatchConfig
from cpt_ray.edges.ray_runtime import operator_environment, put_interpreter_on_path, worker_environment
from cpt_ray.edges.storage import remove_tree
from cpt_ray.errors import CptRayError, TrainingError
from cpt_ray.records import Heartbeat, RunEvent, RunRecord, StepMetrics
from cpt_ray.train.heartbeat import SilenceWatch, describe, laggards, read_heartbeats
from cpt_ray.train.metrics import append_driver_event, read_events, read_metrics
from cpt_ray.train.task import RUN_FILE, TrainTask

OnSteps = Callable[[int, tuple[StepMetrics, ...]], None]
OnDone = Callable[[int, RunRecord], None]
OnEvent = Callable[[int, RunEvent], None]
_POLL_S = 1.0


def run_training(
    tasks: Sequence[TrainTask],
    *,
    name: str,
    runtime: RuntimeConfig,
    storage: Path,
    on_steps: OnSteps,
    on_done: OnDone,
    on_event: OnEvent,
) -> None:
    """Train runs to their ends, in order; a parent comes before its branches.

    Args:
        tasks: The runs; finished ones are passed over.
        name: Name of the Ray Train run.
        runtime: Workers and resources.
        storage: Folder for Ray Train's own files, removed at the end.
        on_steps: Called about once a second, from a thread, with the number of the run in work and all its steps so far.
        on_done: Called for each run as it ends, from a thread, with its number and record.
        on_event: Called for each loss spike, skipped step and hang, from a thread, with the run's number.

    Raises:
        CptRayError: What a worker refused with.
        TrainingError: If workers failed more than `runtime.max_failures` times.
    """
    watcher = _Watcher(tasks, on_steps, on_done, on_event)
    watcher.start()
    try:
        here = runtime.kind == "local"
        refusal = _run_here(tasks) if here else _run_group(tasks, name, runtime, storage, watcher.who_is_behind)
    finally:
        watcher.finish()
    if refusal is not None:
        raise refusal
    if watcher.error is not None:
        raise watcher.error


def _run_here(tasks: Sequence[TrainTask]) -> CptRayError | None:
    if "CUDA_VISIBLE_DEVICES" not in os.environ and not Path("/dev/nvidia0").exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.update(operator_environment())
    put_interpreter_on_path()
    return _work({"tasks": [task.to_json() for task in tasks]})


def _run_group(
    tasks: Sequence[TrainTask], name: str, runtime: RuntimeConfig, storage: Path, who_is_behind: Callable[[], str]
) -> CptRayError | None:
    gpus = runtime.gpus_per_worker
    trainer = TorchTrainer(
        _work,
        train_loop_config={"tasks": [task.to_json() for task in tasks]},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=runtime.collective_timeout),
        scaling_config=ScalingConfig(
            num_workers=(runtime.workers.min, runtime.workers.max) if runtime.workers.elastic else runtime.workers.max,
            elastic_resize_monitor_interval_s=float(runtime.resize_interval),
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": runtime.cpus_per_worker, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=runtime.max_failures),
            worker_runtime_env={"env_vars": worker_environment(runtime)},
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise TrainingError(
            f"{name}: workers failed more than {runtime.max_failures} times; the last failure: {_last_line(error)}"
            f"{who_is_behind()}",
            fix="run the same command again to go on from the last checkpoint; Ray's session logs hold the workers' output",
        ) from error
    remove_tree(storage)
    refusal: CptRayError | None = result.return_value
    return refusal


def _work(config: dict[str, Any]) -> CptRayError | None:
    """A worker's function. A refusal is returned, not raised: Ray Train would restart the group for an error it cannot mend."""
    from cpt_ray.train.worker import run_worker

    try:
        for text in config["tasks"]:
            task = TrainTask.from_json(text)
            if not task.finished:
                run_worker(task)
    except CptRayError as error:
        return error
    return None


class _Watcher(threading.Thread):
    """Looks at the runs' folders and tells the driver what it sees; an error of a callback is kept for the driver to raise."""

    def __init__(self, tasks: Sequence[TrainTask], on_steps: OnSteps, on_done: OnDone, on_event: OnEvent) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self._tasks, self._on_steps, self._on_done, self._on_event = tasks, on_steps, on_done, on_event
        self._current = 0
        self._told: set[tuple[str, int, int]] = set()
        self._silence = SilenceWatch(min((hang_report_s(task) for task in tasks), default=0))
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(_POLL_S) and self.error is None:
            self._look()

    def finish(self) -> None:
        """Stop, after one last look."""
        self._stopping.set()
        self.join()
        if self.error is None:
            self._look()

    def who_is_behind(self) -> str:
        """The worker that the others wait for, as the end of a sentence; empty where none is behind."""
        behind = [beat for task in self._tasks[self._current : self._current + 1] for beat in _behind(task)]
        return f"; {describe(behind)}, behind the others" if behind else ""

    def _look(self) -> None:
        try:
            while self._current < len(self._tasks):
                task = self._tasks[self._current]
                finished = task.finished  # asked before the steps are read, so that they are whole
                steps = read_metrics(Path(task.run_folder))
                if steps:
                    self._on_steps(self._current, steps)
                self._tell_events(task)
                if not finished:
                    self._look_for_silence(task, steps)
                    return
                self._on_done(self._current, RunRecord.load(Path(task.run_folder) / RUN_FILE))
                self._current += 1
                self._told.clear()
        except Exception as error:  # raised by the driver: an exception in a thread is only printed
            self.error = error

    def _tell_events(self, task: TrainTask) -> None:
        for event in read_events(Path(task.run_folder)):
            key = (event.kind, event.attempt, event.step)
            if event.kind != "checkpoint" and key not in self._told:
                self._told.add(key)
                self._on_event(self._current, event)

    def _look_for_silence(self, task: TrainTask, steps: tuple[StepMetrics, ...]) -> None:
        beats = read_heartbeats(Path(task.run_folder))
        silence = self._silence.look(beats, slowest_step_s=max((step.step_s for step in steps), default=0.0))
        if silence is None:
            return
        event = RunEvent(
            kind="hang",
            attempt=max((step.attempt for step in steps), default=1),
            step=max(beat.step for beat in silence.behind),
            tokens_seen=steps[-1].tokens_seen if steps else 0,
            text=str(silence),
            seconds=silence.seconds,
            rank=silence.behind[0].rank,
        )
        append_driver_event(Path(task.run_folder), event)
        self._tell_events(task)


def hang_report_s(task: TrainTask) -> int:
    """Seconds of silence after which a run's workers are reported."""
    return WatchConfig.model_validate(task.config["train"]["watch"]).hang_report


def _behind(task: TrainTask) -> tuple[Heartbeat, ...]:
    beats = read_heartbeats(Path(task.run_folder))
    return laggards(beats) if len(beats) > 1 else ()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
