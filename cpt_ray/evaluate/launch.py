"""Score many models: one Ray task each, several at a time, or sequentially in this process.

In: jobs, one per run. Out: their `EvalRecord`s, each passed on as its task ends. A task scores on one CPU thread (or on the
GPU it is given), so scoring alongside training does not stall the collectives. The driver holds only records.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.device import prove_device
from cpt_ray.edges.logs import tell_warnings
from cpt_ray.edges.ray_runtime import require_cluster_gpus, worker_environment
from cpt_ray.errors import CptRayError
from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings, evaluate_model
from cpt_ray.records import EvalRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateProgress:
    """Scoring progress: models done, and the rate in scored tokens over all workers."""

    done: int
    total: int
    scored_tokens: int
    tokens_per_s: float
    eta_s: float | None
    """None until the first model is done."""


def evaluate_runs(
    jobs: Sequence[EvaluateJob],
    settings: EvaluateSettings,
    runtime: RuntimeConfig,
    *,
    on_done: Callable[[int, EvalRecord], None] = lambda _index, _record: None,
    on_progress: Callable[[EvaluateProgress], None] = lambda _: None,
) -> list[EvalRecord]:
    """Score each job; `runtime.kind: local` runs in this process, anything else needs a Ray session.

    Args:
        jobs: Exports to score.
        settings: The same for all of them.
        runtime: The `runtime` section; at most `evaluate_workers` jobs run at once.
        on_done: Called with the place of each job and its record as it ends.
        on_progress: Called at the start and after each job.

    Returns:
        The records, in the order of `jobs`.

    Raises:
        CptRayError: The error of the first job that fails; jobs still running are canceled.
    """
    records: dict[int, EvalRecord] = {}
    started = time.monotonic()
    on_progress(_progress(records, len(jobs), started))

    def finish(index: int, record: EvalRecord) -> None:
        records[index] = record
        on_done(index, record)
        on_progress(_progress(records, len(jobs), started))

    if runtime.kind == "local":
        prove_device(runtime, {"evaluate.precision": settings.config.precision})
        for index, job in enumerate(jobs):
            finish(index, evaluate_model(job, settings))
    else:
        _run_tasks(jobs, settings, runtime, finish)
    return [records[index] for index in range(len(jobs))]


def _run_tasks(
    jobs: Sequence[EvaluateJob],
    settings: EvaluateSettings,
    runtime: RuntimeConfig,
    finish: Callable[[int, EvalRecord], None],
) -> None:
    import ray

    require_cluster_gpus(runtime)
    task = ray.remote(_evaluate_in_task).options(
        num_cpus=1,
        num_gpus=runtime.gpus_per_worker,
        max_retries=2,  # for a lost node; errors raised by a job are not retried
        runtime_env={"env_vars": worker_environment(runtime)},
    )
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < runtime.evaluate_workers:
                index, job = waiting.pop()
                running[task.remote(job, settings, runtime)] = index
            for reference in ray.wait(list(running), num_returns=1)[0]:
                finish(running[reference], _result(reference, jobs[running[reference]]))
                del running[reference]
    finally:
        # Empty unless something was raised: the others would go on scoring for nobody.
        for reference in running:
            ray.cancel(reference, force=True)


def _result(reference: Any, job: EvaluateJob) -> EvalRecord:
    import ray

    try:
        record: EvalRecord
        record, warned = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CptRayError):
            raise error.cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError) as error:
        raise CptRayError(
            f"scoring {job.run.run} lost its worker three times: {str(error).splitlines()[0]}",
            fix="usually out of memory: lower evaluate.batch_tokens or runtime.evaluate_workers, then re-run the same command",
        ) from error
    for text in warned:
        logger.warning("scoring: %s", text)
    return record


def _evaluate_in_task(job: EvaluateJob, settings: EvaluateSettings, runtime: RuntimeConfig) -> tuple[EvalRecord, list[str]]:
    """Score in a Ray task; also return the warnings."""
    if prove_device(runtime, {"evaluate.precision": settings.config.precision}) == "cpu":
        torch.set_num_threads(1)  # the task requested one CPU from Ray
    warned: list[str] = []
    with tell_warnings(warned.append):
        return evaluate_model(job, settings), warned


def _progress(records: dict[int, EvalRecord], total: int, started: float) -> EvaluateProgress:
    elapsed = max(time.monotonic() - started, 1e-9)
    tokens = sum(score.scored_tokens for record in records.values() for score in record.held_out)
    return EvaluateProgress(
        done=len(records),
        total=total,
        scored_tokens=tokens,
        tokens_per_s=tokens / elapsed,
        eta_s=elapsed / len(records) * (total - len(records)) if records else None,
    )
