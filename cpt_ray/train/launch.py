"""Train a list of runs with workers under Ray Train, or in this process, and watch them from the driver.

One group of workers trains all runs, one after another: starting a group takes tens of seconds, while a further run in the
same group only needs a model and an engine. Ray Train restarts the whole group when a worker dies; the workers then skip
finished runs and find the newest committed checkpoint of the next run themselves. The driver reads progress from run storage,
so it sees the same whichever node the workers are on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges import store
from cpt_ray.edges.logs import FOLDER, LOCATIONS
from cpt_ray.edges.process import choose_accelerator, quick_imports
from cpt_ray.edges.ray_runtime import operator_environment, put_interpreter_on_path, require_cluster_gpus, worker_environment
from cpt_ray.edges.storage import remove_tree
from cpt_ray.edges.store.opening import opened
from cpt_ray.errors import CptRayError, TrainingError
from cpt_ray.records import Heartbeat, RunEvent, RunRecord, StepMetrics
from cpt_ray.train.monitor.heartbeat import SilenceWatch, describe, laggards, read_heartbeats, started_since
from cpt_ray.train.monitor.metrics import append_driver_event, bring_run, read_events, read_metrics
from cpt_ray.train.shutdown import Preemption
from cpt_ray.train.task import TrainTask

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
    """Train runs to completion, in order; a parent comes before its branches.

    Args:
        tasks: The runs; finished ones are skipped.
        name: Name of the Ray Train run.
        runtime: Workers and resources.
        storage: Folder for Ray Train's own files, removed at the end.
        on_steps: Called about once a second, from a thread, with the index of the current run and all its steps so far.
        on_done: Called for each run as it ends, from a thread, with its index and record.
        on_event: Called for each resume, loss spike, skipped step and hang, from a thread, with the run's index.

    Raises:
        CptRayError: The error with which a worker refused.
        TrainingStopped: If SIGINT or SIGTERM requested a stop; the workers have saved.
        KeyboardInterrupt: On a second such signal; unsaved progress is lost.
        TrainingError: If workers failed more than `runtime.max_failures` times.
    """
    watcher = _Watcher(tasks, on_steps, on_done, on_event)
    watcher.start()
    try:
        here = runtime.kind == "local"
        with stop_on_signals([task.stop_file for task in tasks]):
            refusal = _run_here(tasks) if here else _run_group(tasks, name, runtime, storage, watcher.who_is_behind)
    except BaseException:
        LOCATIONS.extend(watcher.log_folders())
        raise
    finally:
        watcher.finish()
    if refusal is not None:
        LOCATIONS.extend(watcher.log_folders())
        raise refusal
    if watcher.error is not None:
        raise watcher.error


def _run_here(tasks: Sequence[TrainTask]) -> CptRayError | None:
    choose_accelerator()
    os.environ.update(operator_environment())
    put_interpreter_on_path()
    # The same entry point as under Ray: a run behaves alike wherever it is trained.
    return _work({"tasks": [task.to_json() for task in tasks], "under_ray": False})


def _run_group(
    tasks: Sequence[TrainTask], name: str, runtime: RuntimeConfig, storage: Path, who_is_behind: Callable[[], str]
) -> CptRayError | None:
    # Here and not above: training in this process needs no Ray.
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    require_cluster_gpus(runtime)
    gpus = runtime.gpus_per_worker
    trainer = TorchTrainer(
        _work,
        # All runs of a study in one group: starting workers costs 35 s on the demo's two cores, a small run's training 30 s.
        train_loop_config={"tasks": [task.to_json() for task in tasks], "under_ray": True},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=runtime.collective_timeout),
        scaling_config=ScalingConfig(
            num_workers=(runtime.workers.min, runtime.workers.max) if runtime.workers.elastic else runtime.workers.max,
            elastic_resize_monitor_interval_s=float(runtime.resize_interval),
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": runtime.cpus_per_worker, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=RunConfig(
            name=name,
            **_ray_storage(storage),
            failure_config=FailureConfig(max_failures=runtime.max_failures),
            worker_runtime_env={"env_vars": worker_environment(runtime)},
        ),
    )
    try:
        result = _fit_beside_signals(trainer)
    except TrainingFailedError as error:
        raise TrainingError(
            f"{name}: workers failed more than {runtime.max_failures} times; last failure: {_last_line(error)}"
            f"{who_is_behind()}",
            fix="re-run the same command to resume from the last checkpoint; the workers' logs show the cause",
        ) from error
    # Ray Train's own bookkeeping: checkpoints and results are in the run's folder.
    remove_tree(storage)
    refusal: CptRayError | None = result.return_value
    return refusal


def _ray_storage(storage: Path) -> dict[str, Any]:
    """Where Ray Train keeps its own files: every node must see it."""
    if not store.is_mirrored(storage):
        return {"storage_path": str(storage)}
    filesystem, path = opened(store.address(storage))
    return {"storage_path": path, "storage_filesystem": filesystem}


def _fit_beside_signals(trainer: Any) -> Any:
    """Run `trainer.fit()` in a thread: in the main one it would handle SIGINT and abort the workers before they save."""
    outcome: list[Any] = []
    errors: list[BaseException] = []

    def fit() -> None:
        try:
            outcome.append(trainer.fit())
        except BaseException as error:  # raised by the caller: an exception in a thread is only printed
            errors.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)  # short, so that a signal's handler runs
    if errors:
        raise errors[0]
    return outcome[0]


@contextlib.contextmanager
def stop_on_signals(stop_files: Sequence[Path]) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into stop files, which workers poll; the second ends everything at once."""
    asked = False

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        for path in set(stop_files):
            path.touch()
            threading.Thread(target=store.push, args=(path,), daemon=True).start()  # a store may be slow, a handler may not
        sys.stderr.write(
            "\nstopping: the workers save a checkpoint first; a second signal stops at once and loses unsaved progress\n"
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for path in set(stop_files):
            store.remove(path) if asked else None
            path.unlink(missing_ok=True)


def _ask_ray() -> Preemption | None:
    """Whether Ray is draining a node of this group; every worker asks at the same step, because the call is a barrier."""
    from ray.train import get_preemption_info

    info = get_preemption_info()
    if info is None:
        return None
    deadline = info.deadline_ms / 1000 if info.deadline_ms else None
    return Preemption(deadline=deadline, nodes=tuple(info.preempted_node_ids))


def _work(config: dict[str, Any]) -> CptRayError | None:
    """A worker's entry point. A refusal is returned; if raised, it would make Ray Train restart the group in vain."""
    with quick_imports():
        from cpt_ray.train.worker import run_worker

    ask = _ask_ray if config["under_ray"] else None
    try:
        for text in config["tasks"]:
            task = TrainTask.from_json(text)
            if not task.finished:
                run_worker(task, ask_preemption=ask)
    except CptRayError as error:
        return error
    return None


class _Watcher(threading.Thread):
    """Polls the runs' folders and reports to the driver; an error in a callback is kept for the driver to raise."""

    def __init__(self, tasks: Sequence[TrainTask], on_steps: OnSteps, on_done: OnDone, on_event: OnEvent) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self._tasks, self._on_steps, self._on_done, self._on_event = tasks, on_steps, on_done, on_event
        self._current = 0
        # Already reported by earlier starts of the same command.
        self._told = {_key(task.spec.name, event) for task in tasks for event in read_events(Path(task.run_folder))}
        self._before = [read_heartbeats(Path(task.run_folder)) for task in tasks]
        self._silence = SilenceWatch(min((task.settings.train.watch.hang_report for task in tasks), default=0))
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
        """The worker that the others wait for, as the end of a sentence; empty if none is behind."""
        behind = [beat for task in self._tasks[self._current : self._current + 1] for beat in _behind(task.run_folder)]
        return f"; {describe(behind)}, behind the others" if behind else ""

    def log_folders(self) -> list[Path]:
        """The log folders of the current run's workers."""
        folders = [Path(task.run_folder) / FOLDER for task in self._tasks[self._current : self._current + 1]]
        return [folder for folder in folders if folder.is_dir()]

    def _look(self) -> None:
        try:
            while self._current < len(self._tasks):
                task = self._tasks[self._current]
                finished = task.finished  # checked before the steps are read, so that they are complete
                bring_run(Path(task.run_folder))
                steps = read_metrics(Path(task.run_folder))
                if steps:
                    self._on_steps(self._current, steps)
                self._tell_events(task)
                if not finished:
                    self._look_for_silence(task, steps)
                    return
                self._on_done(self._current, RunRecord.of(task.run_folder))
                self._current += 1
        except Exception as error:  # raised by the driver: an exception in a thread is only printed
            self.error = error

    def _tell_events(self, task: TrainTask) -> None:
        for event in read_events(Path(task.run_folder)):
            key = _key(task.spec.name, event)
            if event.kind != "checkpoint" and key not in self._told:
                self._told.add(key)
                self._on_event(self._current, event)

    def _look_for_silence(self, task: TrainTask, steps: tuple[StepMetrics, ...]) -> None:
        beats = started_since(read_heartbeats(Path(task.run_folder)), self._before[self._current])
        silence = self._silence.look(beats, slowest_step_s=max((step.step_s for step in steps), default=0.0))
        if silence is None:
            return
        event = RunEvent(
            kind="hang",
            attempt=max((step.attempt for step in steps), default=1),
            step=max((beat.step for beat in silence.behind), default=steps[-1].step if steps else 0),
            tokens_seen=steps[-1].tokens_seen if steps else 0,
            text=str(silence),
            seconds=silence.seconds,
            rank=silence.behind[0].rank if silence.behind else None,
        )
        append_driver_event(Path(task.run_folder), event)
        self._tell_events(task)


def _key(run: str, event: RunEvent) -> tuple[str, str, int, int, str]:
    if event.kind == "warning":  # once for all workers, and for all runs of the group, with the same text
        return "", event.kind, event.attempt, 0, event.text
    return run, event.kind, event.attempt, event.step, ""


def _behind(run_folder: str) -> tuple[Heartbeat, ...]:
    beats = read_heartbeats(Path(run_folder))
    return laggards(beats) if len(beats) > 1 else ()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
