"""Score many models: one Ray task each, several at a time, or sequentially in this process.

In: jobs with their settings, added as their exports appear. Out: their `EvalRecord`s, each passed on as its task ends. A task
scores on one CPU thread (or on the share of a GPU that it is given), so scoring alongside training does not stall the
collectives. The driver holds only records. Guarantee: a job that fails leaves the others alone; its error is kept.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.config.values import format_count, format_eta
from cpt_ray.edges.device import prove_device
from cpt_ray.edges.logs import tell_warnings
from cpt_ray.edges.ray_runtime import require_cluster_gpus, worker_environment, working_labels
from cpt_ray.errors import CptRayError, problem_of
from cpt_ray.evaluate.suite import EvaluateJob, EvaluateSettings, evaluate_model
from cpt_ray.records import EvalRecord

logger = logging.getLogger(__name__)
_LONGEST_WAIT_S = 1.0

OnDone = Callable[[EvaluateJob, EvalRecord], None]
OnFailed = Callable[[EvaluateJob], None]


@dataclass(frozen=True)
class EvaluateProgress:
    """Scoring progress: models done, and the rate in scored tokens over all workers, while any was at work."""

    done: int
    at_work: int
    """Models that are being scored."""
    total: int
    scored_tokens: int
    tokens_per_s: float
    eta_s: float | None
    """None until the first model is done."""

    def __str__(self) -> str:
        """A line for a console."""
        line = f"scoring: {self.done}/{self.total} models done"
        line += f", {self.at_work} at work" if self.at_work else ""
        if self.eta_s is None:
            return line
        return f"{line}, ETA {format_eta(self.eta_s)}, {format_count(self.tokens_per_s)} tokens/s"


class ScoringQueue:
    """Models to score and those that are being scored; `runtime.kind: local` scores in this process, else Ray must be there.

    Args:
        runtime: The `runtime` section.
        on_done: Called with each job and its record as it ends.
        on_failed: Called with each job that fails.
    """

    def __init__(self, runtime: RuntimeConfig, on_done: OnDone, on_failed: OnFailed | None = None) -> None:
        self._runtime, self._on_done, self._on_failed = runtime, on_done, on_failed
        self._waiting: list[tuple[EvaluateJob, EvaluateSettings]] = []
        self._running: dict[Any, EvaluateJob] = {}
        self._worked = 0.0
        self._since: float | None = None
        """Seconds during which a model was scored, and since when one is: beside training, none may be for long."""
        self._total = self._done = self._tokens = 0
        self.failures: dict[str, Exception] = {}
        """By run, why it could not be scored."""

    @property
    def busy(self) -> bool:
        """Whether a model is left."""
        return bool(self._waiting or self._running)

    @property
    def progress(self) -> EvaluateProgress:
        """How far it is."""
        now = 0.0 if self._since is None else time.monotonic() - self._since
        elapsed, done = max(self._worked + now, 1e-9), self._done
        return EvaluateProgress(
            done=done,
            at_work=len(self._running),
            total=self._total,
            scored_tokens=self._tokens,
            tokens_per_s=self._tokens / elapsed,
            eta_s=elapsed / done * (self._total - done) if done else None,
        )

    def add(self, job: EvaluateJob, settings: EvaluateSettings) -> None:
        """Add a model."""
        self._waiting.append((job, settings))
        self._total += 1

    def look(self, room: int) -> None:
        """Begin as many jobs as there is room for, and pass on those that have ended; waits about a second for one.

        Args:
            room: Models at once; in this process, one is scored in any case.
        """
        if self._runtime.kind == "local":
            self._at_work(True)
            self._score_here(*self._waiting.pop(0))
        else:
            self._look_at_tasks(room)
        self._at_work(bool(self._running))

    def _at_work(self, works: bool) -> None:
        now = time.monotonic()
        if self._since is not None:
            self._worked += now - self._since
        self._since = now if works else None

    def _look_at_tasks(self, room: int) -> None:
        import ray

        while self._waiting and len(self._running) < room:
            job, settings = self._waiting.pop(0)
            self._running[self._task.remote(job, settings, self._runtime)] = job
            self._at_work(True)
        if not self._running:
            time.sleep(_LONGEST_WAIT_S)
            return
        for reference in ray.wait(list(self._running), num_returns=1, timeout=_LONGEST_WAIT_S)[0]:
            job = self._running.pop(reference)
            try:
                record = _result(reference, job)
            except Exception as error:
                self._fail(job, error)
            else:
                self._finish(job, record)

    def cancel(self) -> None:
        """Give up what is left; tasks would go on scoring for nobody."""
        self._waiting.clear()
        if self._running:
            import ray

            for reference in self._running:
                ray.cancel(reference, force=True)
            self._running.clear()
        self._at_work(False)

    def require_all(self) -> None:
        """Raise the first error, with the names of all models that were not scored.

        Raises:
            Exception: The error of the first job that failed, a `CptRayError` if the user can fix it.
        """
        if self.failures:
            raise _missing(self.failures, scored=self._done)

    @functools.cached_property
    def _task(self) -> Any:
        import ray

        require_cluster_gpus(self._runtime)
        return ray.remote(_evaluate_in_task).options(
            **placement_of(self._runtime),
            max_retries=2,  # for a lost node; errors raised by a job are not retried
            runtime_env={"env_vars": worker_environment(self._runtime)},
        )

    def _score_here(self, job: EvaluateJob, settings: EvaluateSettings) -> None:
        try:
            prove_device(self._runtime, {"evaluate.precision": settings.config.precision})
            record = evaluate_model(job, settings)
        except Exception as error:
            self._fail(job, error)
        else:
            self._finish(job, record)

    def _finish(self, job: EvaluateJob, record: EvalRecord) -> None:
        self._done += 1
        self._tokens += sum(score.scored_tokens for score in record.held_out)
        self._on_done(job, record)

    def _fail(self, job: EvaluateJob, error: Exception) -> None:
        self.failures[job.run.run] = error
        if self.busy:
            logger.warning("%s is not scored: %s; the others go on", job.run.run, problem_of(error))
        if self._on_failed is not None:
            self._on_failed(job)


def placement_of(runtime: RuntimeConfig) -> dict[str, Any]:
    """What a task that scores asks for and where it runs, as Ray's options."""
    labels = working_labels(runtime, runtime.evaluate_labels)
    return {"num_cpus": 1, "num_gpus": runtime.scoring_gpus, "label_selector": labels or None}


def _missing(failures: Mapping[str, Exception], *, scored: int) -> Exception:
    names, first = ", ".join(failures), next(iter(failures.values()))
    text = f"not scored: {names}; {scored} other model(s) are"
    if isinstance(first, CptRayError):
        return type(first)(f"{first.problem}; {text}", fix=first.fix)
    first.add_note(text)
    return first


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
