"""A few real steps of a model on made-up rows: what a worker takes in memory and time, measured before anything is spent.

`python -m cpt_ray.train.runs.trial TASK.json RESULT.json` is one worker of a trial; `plan --measure` starts as many as the
study's group has on this machine. In: an imported model, and the settings of its runs. Out: a `Trial`, written by rank 0. It
trains, saves, exports and scores with the code that a run uses, so its memory is a run's; weights go nowhere.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
import torch.distributed as dist

from cpt_ray.model.base import load_model
from cpt_ray.records import Trial
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.groups.process import prepare_process
from cpt_ray.train.monitor.memory import read_host_peak
from cpt_ray.train.order.batch_split import BatchSplit
from cpt_ray.train.order.batches import MicroBatch
from cpt_ray.train.task import TrialTask

_MOST_PASSES = 2
"""Forward passes of a step: memory is the same with more, and their time is proportional."""
_LEAST_STEPS, _MOST_STEPS = 3, 12


def main(task_path: str, result_path: str) -> None:
    """Run one worker of a trial."""
    began = time.perf_counter()
    task = TrialTask.load(task_path)
    device = prepare_process(task.runtime, precision=task.train.precision, threads=task.threads, join=True)
    result = _try(task, device, started_s=time.perf_counter() - began)
    if dist.get_rank() == 0:
        Path(result_path).write_text(result.to_json(), encoding="utf-8")
    dist.barrier()


def _try(task: TrialTask, device: torch.device, *, started_s: float) -> Trial:
    base = psutil.Process().memory_info().rss
    began = time.perf_counter()
    model = load_model(task.model_folder, precision=task.train.precision, trust_remote_code=task.trust_remote_code)
    split = BatchSplit(task.train.global_batch_size, task.workers, task.micro_batch)
    passes = min(_MOST_PASSES, split.accumulation_steps)
    engine = Engine(
        model,
        train=task.train.model_copy(update={"micro_batch_size": task.micro_batch}),
        deepspeed=task.deepspeed,
        accumulation_steps=passes,
        device=device,
        row_tokens=task.micro_batch * task.sequence_length,
    )
    built_s = time.perf_counter() - began
    batches = [_made_up(task, task.micro_batch, seed) for seed in range(passes)]
    pass_s, step_s, first_s = _steps(task, engine, batches)
    trained = _peaks(device)
    save_s = _timed(lambda: _save(engine, task.vocabulary_size))
    export_s = _timed(lambda: engine.whole_state(torch.bfloat16))
    engine.nats(batches[0])
    score_s = _timed(lambda: engine.nats(batches[0]))
    host, on_device = _peaks(device)
    return Trial(
        base_bytes=base,
        host_peak_bytes=max(trained[0] or 0, host or 0) or None,
        device_peak_bytes=on_device,
        passes=passes,
        pass_s=pass_s,
        step_s=step_s,
        first_step_s=first_s,
        import_s=started_s,
        build_s=built_s,
        save_s=save_s,
        export_s=export_s,
        score_tokens_per_s=task.micro_batch * task.sequence_length / score_s,
    )


def _steps(task: TrialTask, engine: Engine, batches: list[MicroBatch]) -> tuple[float, float, float]:
    """Medians of the seconds of a forward and backward pass and of an optimizer step, and seconds of the first step."""
    tokens = len(batches) * task.workers * task.micro_batch * task.sequence_length
    passed: list[float] = []
    stepped: list[float] = []
    began = time.perf_counter()
    while _more(len(passed), began, task.seconds, engine.device):
        start = time.perf_counter()
        loss = engine.accumulate(batches, loss_tokens=tokens)
        _wait(engine.device)
        middle = time.perf_counter()
        engine.step(1e-6, loss).read()
        passed.append((middle - start) / len(batches))
        stepped.append(time.perf_counter() - middle)
    return statistics.median(passed[1:]), statistics.median(stepped[1:]), passed[0] * len(batches) + stepped[0]


def _more(done: int, began: float, seconds: float, device: torch.device) -> bool:
    """Whether to take another step; decided by one worker for all."""
    mine = done < _LEAST_STEPS or (done < _MOST_STEPS and time.perf_counter() - began < seconds)
    go = torch.tensor(int(mine), device=device)  # a group of GPUs has no way to send what is on the host
    dist.broadcast(go, 0)
    return bool(go)


def _made_up(task: TrialTask, rows: int, seed: int) -> MicroBatch:
    """Rows of random tokens, in documents of the study's usual length."""
    generator = torch.Generator().manual_seed(seed)
    count = rows * task.sequence_length
    ids = torch.randint(task.vocabulary_size, (count,), generator=generator)
    whole, rest = divmod(task.sequence_length, task.segment_tokens)
    lengths = (*(task.segment_tokens,) * whole, *((rest,) if rest else ()))
    return MicroBatch(ids, torch.roll(ids, -1), lengths * rows)


def _save(engine: Engine, vocabulary_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine.state_figures(vocabulary_size)
        engine.save(Path(folder))


def _peaks(device: torch.device) -> tuple[int | None, int | None]:
    """The highest host and GPU memory of any worker so far."""
    on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    both = torch.tensor([read_host_peak() or 0, on_device], device=device)
    dist.all_reduce(both, op=dist.ReduceOp.MAX)
    host, card = (int(value) for value in both.tolist())
    return host or None, card or None


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
