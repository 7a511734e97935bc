"""Groups of workers under Ray Train, one `TorchTrainer.fit()` each, and the queue of runs as an actor that their workers ask.

Ray Train restarts a group whose worker dies, with as many workers as there is room for; they ask the queue, are given the same
run, and find its newest committed checkpoint themselves. The queue is on the driver's node and ends with the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges import store
from cpt_ray.edges.ray_runtime import worker_environment, working_labels
from cpt_ray.edges.store.opening import opened
from cpt_ray.errors import CptRayError, TrainingError
from cpt_ray.records import Heartbeat
from cpt_ray.train.groups.queue import RunQueue, Turn
from cpt_ray.train.groups.serve import serve
from cpt_ray.train.shutdown import Preemption
from cpt_ray.train.task import TrainTask

_RESUME = "re-run the same command to resume from the last checkpoint"
_CALLS = 16
"""That the queue answers at once: some wait for a store."""
_BEAT_S = 10.0
"""How long a worker waits for the answer to a heartbeat."""


class QueueActor:
    """A `RunQueue` in an actor, with the same methods; may be sent to workers."""

    def __init__(self, tasks: Sequence[TrainTask]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(_Queue).options(num_cpus=0, max_concurrency=_CALLS, scheduling_strategy=here)
        self._actor = actor.remote([task.to_json() for task in tasks])

    def take(self, group: int, after: int | None) -> Turn:
        """See `RunQueue`."""
        answer: Turn = self._ask("take", group, after)
        return answer

    def refuse(self, group: int, error: CptRayError) -> None:
        """See `RunQueue`."""
        self._ask("refuse", group, error)

    def refusal(self, group: int) -> CptRayError | None:
        """See `RunQueue`."""
        answer: CptRayError | None = self._ask("refusal", group)
        return answer

    def open(self, group: int) -> bool:
        """See `RunQueue`."""
        answer: bool = self._ask("open", group)
        return answer

    def close(self, group: int, *, failed: bool) -> None:
        """See `RunQueue`."""
        self._ask("close", group, failed=failed)

    def wanted(self) -> int:
        """See `RunQueue`."""
        answer: int = self._ask("wanted")
        return answer

    def given(self) -> list[int]:
        """See `RunQueue`."""
        answer: list[int] = self._ask("given")
        return answer

    def run_of(self, group: int) -> int | None:
        """See `RunQueue`."""
        answer: int | None = self._ask("run_of", group)
        return answer

    def waits_in_vain(self, group: int) -> bool:
        """See `RunQueue`."""
        answer: bool = self._ask("waits_in_vain", group)
        return answer

    def beat(self, place: int, beat: Heartbeat) -> bool:
        """See `RunQueue`; given up after a while, for the driver's node may be away."""
        answer: bool = self._ask("beat", place, beat, within_s=_BEAT_S)
        return answer

    def beats(self, place: int) -> tuple[Heartbeat, ...]:
        """See `RunQueue`."""
        answer: tuple[Heartbeat, ...] = self._ask("beats", place)
        return answer

    def stop(self) -> None:
        """See `RunQueue`."""
        self._ask("stop")

    def _ask(self, method: str, *arguments: Any, within_s: float | None = None, **named: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self._actor, method).remote(*arguments, **named), timeout=within_s)
        except ray.exceptions.GetTimeoutError as error:
            raise TrainingError(f"the driver's node has not answered for {within_s:.0f} s", fix=_RESUME) from error
        except ray.exceptions.RayActorError as error:
            raise TrainingError(f"the actor that says which run is next is gone: {_last_line(error)}", fix=_RESUME) from error


class _Queue(RunQueue):
    """Made where the actor is: its lock cannot be sent."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__([TrainTask.from_json(text) for text in texts])


def fit_group(
    group: int, tasks: Sequence[TrainTask], queue: QueueActor, *, name: str, runtime: RuntimeConfig, storage: Path
) -> CptRayError | None:
    """Start a group of workers, and wait until it is no longer needed.

    Args:
        group: Its number.
        tasks: All runs.
        queue: Which of them it trains.
        name: Name of its Ray Train run.
        runtime: Workers and resources.
        storage: Folder for Ray Train's own files.

    Returns:
        The error with which a run refused.

    Raises:
        TrainingError: If its workers failed more than `runtime.max_failures` times, or Ray's controller of them is gone.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = runtime.gpus_per_worker
    trainer = TorchTrainer(
        _work,
        train_loop_config={"group": group, "tasks": [task.to_json() for task in tasks], "queue": queue},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=runtime.collective_timeout),
        scaling_config=ScalingConfig(**placement_of(runtime)),
        run_config=RunConfig(
            name=name,
            **_ray_storage(storage),
            failure_config=FailureConfig(max_failures=runtime.max_failures),
            worker_runtime_env={"env_vars": worker_environment(runtime)},
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        if (refusal := queue.refusal(group)) is not None:  # of one worker, without which the others failed
            return refusal
        raise TrainingError(
            f"{name}: workers failed more than {runtime.max_failures} times; last failure: {_last_line(error)}",
            fix=f"{_RESUME}; the workers' logs show the cause",
        ) from error
    except ray.exceptions.RayActorError as error:
        raise TrainingError(f"{name}: Ray's training controller is gone: {_last_line(error)}", fix=_RESUME) from error
    return queue.refusal(group)


def placement_of(runtime: RuntimeConfig) -> dict[str, Any]:
    """How many workers a group has and where, as Ray's `ScalingConfig` takes it."""
    workers = runtime.workers
    return {
        "num_workers": (workers.min, workers.max) if workers.elastic else workers.max,
        "elastic_resize_monitor_interval_s": float(runtime.resize_interval),
        "use_gpu": runtime.gpus_per_worker > 0,
        "resources_per_worker": runtime.worker_demand,
        "placement_strategy": runtime.placement_strategy,
        "label_selector": working_labels(runtime, runtime.label_selector) or None,
    }


def _ray_storage(storage: Path) -> dict[str, Any]:
    """Where Ray Train keeps its own files: every node must see it."""
    if not store.is_mirrored(storage):
        return {"storage_path": str(storage)}
    filesystem, path = opened(store.address(storage))
    return {"storage_path": path, "storage_filesystem": filesystem}


def _work(config: dict[str, Any]) -> None:
    tasks = [TrainTask.from_json(text) for text in config["tasks"]]
    serve(config["queue"], config["group"], tasks, ask_preemption=_ask_ray)


def _ask_ray() -> Preemption | None:
    """Whether Ray is draining a node of this group; every worker asks at the same step, because the call is a barrier."""
    from ray.train import get_preemption_info

    info = get_preemption_info()
    if info is None:
        return None
    deadline = info.deadline_ms / 1000 if info.deadline_ms else None
    return Preemption(deadline=deadline, nodes=tuple(info.preempted_node_ids))


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
