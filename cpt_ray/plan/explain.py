"""The arithmetic behind a plan's memory and time, as lines to check by hand: `cpt-ray plan --explain`."""

from __future__ import annotations

from collections.abc import Iterator

from cpt_ray.model.parameters import flops_per_token
from cpt_ray.plan.advice import Asked
from cpt_ray.plan.hours import Hours
from cpt_ray.plan.memory import is_compiled
from cpt_ray.plan.pace import peak_flops
from cpt_ray.records import MemoryPlan
from cpt_ray.train.engine.activation_bytes import compute_bytes, feedforward_size, is_gated, layer_bytes
from cpt_ray.train.engine.optimizer_kinds import KINDS


def explain_memory(asked: Asked, plan: MemoryPlan) -> Iterator[str]:
    """The lines of one model's memory."""
    shape, train, work, workers = asked.shape, asked.train, asked.work, asked.workers
    size, stage = compute_bytes(train), plan.zero_stage
    trained = shape.trained_parameters
    sharded = {name: f" / {workers} workers" if stage >= least else "" for name, least in _SHARDED_FROM.items()}
    moments = KINDS[train.optimizer].moment_bytes
    yield f"{asked.model}: memory of a worker, in bytes"
    yield f"  weights      {_b(plan.weights_bytes)} = {plan.parameters:,} x {size}{sharded['weights']}"
    each = _each(plan.gradients_bytes, trained, sharded["gradients"], workers)
    yield f"  gradients    {_b(plan.gradients_bytes)} = {trained:,} x {each}"
    yield (
        f"  optimizer    {_b(plan.optimizer_bytes)} = {trained:,} x (master weight + moments of {moments})"
        f"{sharded['optimizer']} (ZeRO, Rajbhandari et al. 2020)"
    )
    if plan.host_bytes:
        yield f"               {_b(plan.host_bytes)} of these in host memory (ZeRO-Offload, Ren et al. 2021)"
    tokens = plan.rows * plan.row_tokens
    layer = layer_bytes(shape, size, compiled=is_compiled(train, work.place))
    kept = f"{shape.num_layers} layers x {layer:,}"
    if train.gradient_checkpointing:
        kept = f"({shape.num_layers} layers x {size * shape.hidden_size:,} + one layer of {layer:,})"
    yield f"  activations  {_b(plan.activations_bytes)} = {tokens:,} tokens x ({kept} + final norm)"
    yield (
        f"               a layer: hidden {shape.hidden_size}, {shape.num_heads} heads and "
        f"{shape.num_key_heads or shape.num_heads} of keys of {shape.head_dim}, MLP "
        f"{feedforward_size(shape)}{' gated' if is_gated(shape) else ''} "
        "(Korthikanti et al. 2022, section 4.1)"
    )
    yield f"  loss         {_b(plan.loss_bytes)} : a chunk of logits over {shape.vocabulary_size:,}, gradient of the head"
    yield f"  buffers      {_b(plan.buffers_bytes)} : buckets, weights gathered at stage 3, copies in a step"
    yield f"  runtime      {_b(plan.base_bytes)} : {'CUDA context, NCCL' if plan.on_gpu else 'Python, torch, DeepSpeed'}"
    yield f"  slack        {_b(plan.spare_bytes)} : what the allocator keeps"
    if plan.measured_bytes is not None:
        yield f"  measured     {_b(plan.measured_bytes)} : a trial's peak beyond these parts"
    yield f"  peak         {_b(plan.peak_bytes)}"


_SHARDED_FROM = {"optimizer": 1, "gradients": 2, "weights": 3}


def _each(total: int, trained: int, sharded: str, workers: int) -> str:
    return f"{total * (workers if sharded else 1) / max(1, trained):.0f}{sharded}"


def explain_time(hours: Hours) -> Iterator[str]:
    """The lines of the time of training."""
    hardware = hours.hardware
    for model, load in hours.loads.items():
        pace, split = hours.paces[model], load.split
        per_token = flops_per_token(load.shape, load.mean_keys)
        peak = peak_flops(hardware, load.train, hours.cores)
        yield f"{model}: time of a step on {hardware.name}"
        yield (
            f"  FLOPs        {per_token:.3e} per token = 6 x matrix parameters + 12 x layers x heads x head size x "
            f"{load.mean_keys:g} keys"
        )
        rest = "measured" if hours.measured else f"{peak:.3e} FLOP/s x {hardware.achieved_share:g}"
        yield f"  pass         {pace.pass_s:.4g} s = {load.pass_flops:.3e} FLOPs of {split.micro_batch} rows, at {rest}"
        yield f"  update       {pace.step_s:.4g} s"
        yield (
            f"  step         {pace.optimizer_step_s(split):.4g} s = {split.accumulation_steps} passes + update, "
            f"{split.rows} rows on {split.workers} workers"
        )
        yield f"  checkpoint   {pace.save_s:.4g} s; export {pace.export_s:.4g} s; model and engine {pace.build_s:.4g} s per run"


def _b(size: float) -> str:
    return f"{size:>17,.0f}"
