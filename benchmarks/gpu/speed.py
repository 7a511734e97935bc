"""Training speed on one device, in one process: a bare loop, the same compiled, ours at each ZeRO stage, HF's Trainer.

Run by `run.sh` as `python -m benchmarks.gpu.speed ours|peers SHARDS OUT`: rows of the study's own shards, weights of
SmolLM2-135M's shape drawn from one seed, so that the losses of all sides must agree. The bare loop has every optimization that
ours has. The Trainer has a process of its own, because accelerate takes a process group for several GPUs; all else has one,
because on a GPU that nobody shares the clock does not drift, and starting one costs more than measuring. Sides come in the
order of their worth; each is written to OUT when it is measured, and one that fails is an entry with its error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import LlamaForCausalLM, PreTrainedModel

from benchmarks.gpu.shapes import SMOLLM2_135M, TINY_SHAPE, Shape, config
from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.data.rows.shards import PackedRow, ShardReader
from cpt_ray.model.attention.isolation import hidden_states, use_document_attention
from cpt_ray.model.head import install_loss_head
from cpt_ray.model.layers.compiled import install
from cpt_ray.model.layers.fused import fuse_projections
from cpt_ray.records import ShardManifest
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.monitor.peak import measure_peak_flops
from cpt_ray.train.order.batches import MicroBatch, join_rows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TINY = DEVICE.type == "cpu"
RATE, CLIPPING, BETAS, EPSILON, DECAY = 1e-4, 1.0, (0.9, 0.95), 1e-8, 0.1


@dataclasses.dataclass(frozen=True)
class Load:
    """What every side trains: `micro_batches` of `rows` rows a step, for `warmup + steps` steps."""

    rows: int
    micro_batches: int
    warmup: int
    steps: int

    def slots(self, length: int) -> int:
        """Tokens of a step, padding included."""
        return self.rows * self.micro_batches * length


LOAD = Load(rows=2, micro_batches=2, warmup=1, steps=2) if TINY else Load(rows=16, micro_batches=4, warmup=4, steps=10)


@dataclasses.dataclass(frozen=True)
class Step:
    """The data of one optimizer step, as rows and as our micro-batches."""

    rows: tuple[PackedRow, ...]
    micro: tuple[MicroBatch, ...]

    @property
    def labels(self) -> int:
        """Loss-bearing tokens."""
        return sum(row.loss_tokens for row in self.rows)


def read_steps(shards: Path, load: Load) -> list[Step]:
    """The first rows of the largest source, as steps."""
    manifest = ShardManifest.of(shards)
    reader = ShardReader(shards, manifest)
    source = max(manifest.shards.sources, key=lambda name: sum(entry.rows for entry in manifest.of_source(name)))
    available = sum(entry.rows for entry in manifest.of_source(source))
    steps = []
    for step in range(load.warmup + load.steps):
        first = step * load.rows * load.micro_batches
        rows = reader.rows(source, [(first + index) % available for index in range(load.rows * load.micro_batches)])
        micro = tuple(_pinned(join_rows(rows[start : start + load.rows])) for start in range(0, len(rows), load.rows))
        steps.append(Step(tuple(rows), micro))
    return steps


def _pinned(batch: MicroBatch) -> MicroBatch:
    """A batch in pinned memory, as a worker's reading thread makes it."""
    if DEVICE.type != "cuda":
        return batch
    return dataclasses.replace(batch, input_ids=batch.input_ids.pin_memory(), labels=batch.labels.pin_memory())


def make_model(shape: Shape = TINY_SHAPE if TINY else SMOLLM2_135M, *, ours: bool = True) -> PreTrainedModel:
    """The seeded model, in bf16 on the device; with our attention and loss head unless it is a peer's."""
    torch.manual_seed(0)
    with DEVICE:
        model = LlamaForCausalLM(config(shape)).to(torch.bfloat16)
    if ours:
        install_loss_head(model)
        use_document_attention(model)
    return model


def clock(step: Callable[[Step], Any], data: Sequence[Step], load: Load) -> dict[str, Any]:
    """Take every step; return seconds of the measured ones, seconds of the first, and losses."""
    seconds, losses = [], []
    for one in data:
        wait_for_device()
        started = time.perf_counter()
        loss = step(one)
        wait_for_device()
        seconds.append(time.perf_counter() - started)
        losses.append(float(loss))
    return {"first_s": seconds[0], "step_s": seconds[load.warmup :], "losses": losses}


def bare(data: Sequence[Step], load: Load, *, compiled: bool) -> dict[str, Any]:
    """A loop of torch alone, with our attention and loss, and our compiled layers if `compiled`."""
    model = make_model().train()
    parameters = list(model.parameters())
    masters = [parameter.detach().float().clone().requires_grad_() for parameter in parameters]
    groups = [
        {"params": [m for m in masters if m.ndim >= 2], "weight_decay": DECAY},
        {"params": [m for m in masters if m.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPSILON, fused=True)
    if compiled:
        fuse_projections(model)
        install(model)

    def step(one: Step) -> torch.Tensor:
        nats = torch.zeros((), device=DEVICE)
        for batch in one.micro:
            hidden = hidden_states(model, batch.input_ids.to(DEVICE, non_blocking=True), batch.segment_lengths)
            loss = model.get_output_embeddings()(hidden, batch.labels.to(DEVICE, non_blocking=True))
            (loss / one.labels).backward()
            nats += loss.detach()
        for parameter, master in zip(parameters, masters, strict=True):
            master.grad, parameter.grad = parameter.grad.float(), None
        torch.nn.utils.clip_grad_norm_(masters, CLIPPING)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(parameters, masters)
        return nats / one.labels

    return clock(step, data, load)


@contextlib.contextmanager
def open_engine(
    deepspeed: str, *, compiled: bool | str, load: Load, length: int, shape: Shape = TINY_SHAPE if TINY else SMOLLM2_135M
) -> Iterator[Callable[[Step], torch.Tensor]]:
    """Our engine, as a worker uses it: a function that takes a step and returns its loss."""
    path = f"ds_configs/{deepspeed}"
    train = TrainConfig(
        budgets=(1000,),
        learning_rate=RATE,
        global_batch_size=load.rows * load.micro_batches,
        micro_batch_size=load.rows,
        deepspeed=path,
        compile=compiled,
        beta1=BETAS[0],
        beta2=BETAS[1],
        epsilon=EPSILON,
        weight_decay=DECAY,
        gradient_clipping=CLIPPING,
    )
    engine = Engine(
        make_model(shape),
        train=train,
        deepspeed=load_deepspeed(path),
        accumulation_steps=load.micro_batches,
        device=DEVICE,
        row_tokens=load.rows * length,
    )
    if compiled is True and (engine.compiled is None or not engine.compiled.active):
        raise RuntimeError(f"not compiled: {engine.compiled}")

    def step(one: Step) -> torch.Tensor:
        loss = engine.accumulate(one.micro, loss_tokens=one.labels)
        engine.step(RATE, loss)
        return loss

    try:
        yield step
    finally:
        engine.close()


def ours(data: Sequence[Step], load: Load, *, deepspeed: str, compiled: bool | str) -> dict[str, Any]:
    """Ours, with a file of `ds_configs/`."""
    with open_engine(deepspeed, compiled=compiled, load=load, length=len(data[0].rows[0].tokens)) as step:
        return clock(step, data, load)


def hugging_face(data: Sequence[Step], load: Load, *, attention: str, liger: bool) -> dict[str, Any]:
    """Hugging Face's Trainer with the best settings that its users have: packed rows, compile, Liger."""
    from benchmarks.gpu.trainer import run_trainer

    steps, model = [one.rows for one in data], make_model(ours=False)
    return run_trainer(model, steps, load, attention=attention, liger=liger, rate=RATE, decay=DECAY)


def peer_sides(data: Sequence[Step], load: Load) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The Trainer, with each attention that isolates documents, the likely fastest first."""
    kinds = [("flex_attention", True), ("flex_attention", False), ("sdpa", True), ("flash_attention_2", True)]
    for attention, liger in [("sdpa", False)] if TINY else kinds:  # FlexAttention has no backward pass on a CPU
        name = f"hf {attention}{', Liger' if liger else ''}"
        yield name, lambda attention=attention, liger=liger: hugging_face(data, load, attention=attention, liger=liger)


def own_sides(data: Sequence[Step], load: Load) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Ours and the bare loop, the most valuable first."""
    yield "zero1 compiled", lambda: ours(data, load, deepspeed="zero1_bf16.json", compiled=True)
    yield "bare compiled", lambda: bare(data, load, compiled=True)
    yield "bare", lambda: bare(data, load, compiled=False)
    yield "zero1", lambda: ours(data, load, deepspeed="zero1_bf16.json", compiled=False)
    yield "zero2 compiled", lambda: ours(data, load, deepspeed="zero2_bf16.json", compiled=True)
    yield "zero3 compiled", lambda: ours(data, load, deepspeed="zero3_bf16.json", compiled=True)


def measure(name: str, side: Callable[[], dict[str, Any]], slots: int) -> dict[str, Any]:
    """Measure one side; an error is its entry, so that it costs only itself."""
    started = time.perf_counter()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        found = side()
        found["tokens_per_s"] = round(slots / statistics.median(found["step_s"]))
    except Exception as error:  # the other sides are still worth measuring
        found = {"error": f"{type(error).__name__}: {error}"[:500]}
    if DEVICE.type == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    found["whole_s"] = round(time.perf_counter() - started, 1)
    gc.collect()
    print(name, {key: value for key, value in found.items() if key not in ("step_s", "losses")}, flush=True)
    return found


def start_group() -> None:
    """A process group of one, as a worker has it."""
    os.environ.update({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"})
    store = dist.HashStore()
    dist.init_process_group("nccl" if DEVICE.type == "cuda" else "gloo", store=store, rank=0, world_size=1)
    if DEVICE.type == "cuda":
        torch.cuda.set_device(0)


def copy_bandwidth(repeats: int = 20) -> float:
    """Bytes read and written per second by a copy."""
    source = torch.empty(2**20 if TINY else 2**30, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    target.copy_(source)
    wait_for_device()
    started = time.perf_counter()
    for _ in range(repeats):
        target.copy_(source)
    wait_for_device()
    return 2 * source.numel() * repeats / (time.perf_counter() - started)


def wait_for_device() -> None:
    """Wait until the device has nothing left to compute."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure every side in order, and write after each."""
    who, shards, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if who == "ours":
        start_group()
    data = read_steps(shards, LOAD)
    length = len(data[0].rows[0].tokens)
    lengths = [count for step in data for row in step.rows for count in row.segment_lengths]
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(0) if DEVICE.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "load": {**dataclasses.asdict(LOAD), "length": length},
        "mean_keys": sum(count**2 for count in lengths) / (2 * sum(lengths)),
        "matmul_flops_per_s": measure_peak_flops(DEVICE, torch.bfloat16),
        "copy_bytes_per_s": copy_bandwidth(),
        "sides": {},
    }
    for name, side in {"ours": own_sides, "peers": peer_sides}[who](data, LOAD):
        result["sides"][name] = measure(name, side, LOAD.slots(length))
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
