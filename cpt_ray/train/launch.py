"""Start a run's workers under Ray Train, or in this process, and watch them from the driver.

Ray Train restarts the whole group when a worker dies; the workers then find the newest committed checkpoint themselves. The
driver reads progress from run storage, so it sees the same whatever node the workers are on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from cpt_ray.config.runtime import RuntimeConfig
from cpt_ray.edges.ray_runtime import operator_environment, put_interpreter_on_path, worker_environment
from cpt_ray.edges.storage import remove_tree
from cpt_ray.errors import CptRayError, TrainingError
from cpt_ray.records import RunRecord, StepMetrics
from cpt_ray.train.metrics import read_metrics

OnSteps = Callable[[tuple[StepMetrics, ...]], None]
_POLL_S = 1.0


def run_training(task_json: str, *, run_folder: Path, name: str, runtime: RuntimeConfig, on_steps: OnSteps) -> RunRecord:
    """Train one run to its end and return its record.

    Args:
        task_json: A `train.worker.TrainTask`.
        run_folder: The run's folder.
        name: Name of the Ray Train run.
        runtime: Workers and resources.
        on_steps: Called about once a second, from a thread, with all steps so far.

    Raises:
        CptRayError: What a worker refused with.
        TrainingError: If workers failed more than `runtime.max_failures` times.
    """
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run_folder, on_steps, stop), daemon=True)
    watcher.start()
    try:
        refusal = _run_here(task_json) if runtime.kind == "local" else _run_group(task_json, run_folder, name, runtime)
    finally:
        stop.set()
        watcher.join()
    if refusal is not None:
        raise refusal
    on_steps(read_metrics(run_folder))
    return RunRecord.load(run_folder / "run.json")


def _run_here(task_json: str) -> CptRayError | None:
    if "CUDA_VISIBLE_DEVICES" not in os.environ and not Path("/dev/nvidia0").exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.update(operator_environment())
    put_interpreter_on_path()
    return _work({"task": task_json})


def _run_group(task_json: str, run_folder: Path, name: str, runtime: RuntimeConfig) -> CptRayError | None:
    gpus = runtime.gpus_per_worker
    storage = run_folder / "ray"
    trainer = TorchTrainer(
        _work,
        train_loop_config={"task": task_json},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=runtime.collective_timeout),
        scaling_config=ScalingConfig(
            num_workers=runtime.num_workers,
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
            f"run {name}: workers failed more than {runtime.max_failures} times; the last failure: {_last_line(error)}",
            fix="run the same command again to go on from the last checkpoint; Ray's session logs hold the workers' output",
        ) from error
    remove_tree(storage)
    refusal: CptRayError | None = result.return_value
    return refusal


def _work(config: dict[str, Any]) -> CptRayError | None:
    """A worker's function. A refusal is returned, not raised: Ray Train would restart the group for an error it cannot mend."""
    from cpt_ray.train.worker import TrainTask, run_worker

    try:
        run_worker(TrainTask.from_json(config["task"]))
    except CptRayError as error:
        return error
    return None


def _watch(run_folder: Path, on_steps: OnSteps, stop: threading.Event) -> None:
    while not stop.wait(_POLL_S):
        steps = read_metrics(run_folder)
        if steps:
            on_steps(steps)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
