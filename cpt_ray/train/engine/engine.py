"""The engine: a causal LM under DeepSpeed ZeRO, reduced to the few calls that the loop needs.

In: micro-batches. Out: the global mean loss, the gradient norm, whole weights for export. The loss is a sum divided by the
global count of loss-bearing tokens, so worker count, micro-batch and accumulation do not change the objective.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedModel

from cpt_ray.config.deepspeed import DeepSpeedConfig, resolve_deepspeed
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.edges.process import pretend_absent
from cpt_ray.errors import ConfigError
from cpt_ray.model.attention.isolation import head_shape, hidden_states, kernel_name
from cpt_ray.model.layers.adapter import add_adapters, merged
from cpt_ray.model.layers.compiled import compiles, filler_lengths, remove
from cpt_ray.model.layers.dropout import describe_dropout, seed_dropout
from cpt_ray.model.layers.freezing import freeze
from cpt_ray.model.layers.fused import SEPARATE, fuse_projections
from cpt_ray.model.loss import IGNORED
from cpt_ray.records import CompiledLayers, StateFigures
from cpt_ray.train.checkpoint.state_figures import measure_state
from cpt_ray.train.engine.atomic_step import atomic_step
from cpt_ray.train.engine.compiling import compile_together, say_uncompiled, without_leaf_hooks
from cpt_ray.train.engine.optimizer import build_optimizer, parameter_groups
from cpt_ray.train.engine.optimizer_kinds import KINDS
from cpt_ray.train.engine.outcome import Outcome
from cpt_ray.train.engine.threads import one_thread, settle_run_loops
from cpt_ray.train.order.batches import MicroBatch

# DeepSpeed's autotuner, which nothing here uses, imports MLflow if it is installed: 1.5 s of CPU as each worker starts.
with pretend_absent("mlflow"):
    from deepspeed import initialize, ops, zero
    from deepspeed.checkpoint.constants import UNIVERSAL_CHECKPOINT_VERSION_KEY, UNIVERSAL_CHECKPOINT_VERSION_VALUE
    from deepspeed.runtime import bf16_optimizer
    from deepspeed.utils import safe_get_full_fp32_param

# DeepSpeed 0.19 prints reports of memory to the terminal of whoever trains with ZeRO 1, whatever the log level (`force=True` in
# `BF16_Optimizer`). Remove this once they are logged.
bf16_optimizer.see_memory_usage = lambda *_, **__: None
# For CPUs DeepSpeed 0.19 compiles an all-reduce as it starts: a minute, and a compiler, for what only its inference calls.
ops.__compatible_ops__["deepspeed_shm_comm"] = False

_TAG = "engine"

logger = logging.getLogger(__name__)


class PackedLossModel(nn.Module):
    """A causal LM that maps a flat packed row to its summed loss. DeepSpeed wraps it, so everything runs through `forward`."""

    def __init__(self, lm: PreTrainedModel, *, isolate: bool) -> None:
        super().__init__()
        self.lm = lm
        self._isolate = isolate

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        segment_lengths: Sequence[int],
        *,
        mask: bool | None = None,
        per_token: bool = False,
    ) -> Tensor:
        """Return the sum of nats (scalar), or with `per_token` nats [N] without gradients."""
        hidden = hidden_states(self.lm, input_ids, segment_lengths, mask=self._isolate if mask is None else mask)
        result: Tensor = self.lm.get_output_embeddings()(hidden, labels, per_token=per_token)
        return result


class Engine:
    """DeepSpeed around a `PackedLossModel`. Collective: every rank makes the same calls.

    Args:
        lm: The loaded model, in the compute type.
        train: The study's train section.
        deepspeed: The checked JSON.
        accumulation_steps: Forward passes per step.
        device: Where to compute.
        row_tokens: Tokens of every forward pass; None if they vary, and then layers are not compiled.
        load_universal: Whether `load` will read a checkpoint converted from another worker count; DeepSpeed must know up front.
        seed: Seed of dropout and of fresh adapters.
        on_wait: Called about twice a second while layers are compiled.

    Raises:
        ConfigError: If `train` requires something that this device or model does not support.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        *,
        train: TrainConfig,
        deepspeed: DeepSpeedConfig,
        accumulation_steps: int,
        device: torch.device,
        row_tokens: int | None = None,
        load_universal: bool = False,
        seed: int = 0,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        if train.precision == "fp16" and device.type == "cpu":
            raise ConfigError("train.precision is fp16, which needs a GPU", fix="set train.precision=bf16, or fp32")
        self._moments = KINDS[train.optimizer].moments
        self._adapted = train.lora is not None
        _choose_trained(lm, train, seed)
        self.dropout = describe_dropout(lm)
        """The dropout in the model, for the run's record."""
        self.projections = _fuse(lm, train, device)
        """What is fused in the model (`model.layers.fused`), for the run's record."""
        if train.gradient_checkpointing:
            lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        lm.train()
        self._row_tokens = row_tokens
        self.compiled: CompiledLayers | None = None
        """How the layers were compiled; None if they were not to be."""
        if row_tokens is not None and compiles(train.compile, device):
            self.compiled = compile_together(
                lm, tokens=row_tokens, limit_s=train.compile_limit, zero_stage=deepspeed.zero_stage, on_wait=on_wait
            )
        resolved = resolve_deepspeed(
            deepspeed, train=train, accumulation_steps=accumulation_steps, hidden_size=lm.config.hidden_size
        )
        if load_universal:
            resolved["checkpoint"] = {**resolved.get("checkpoint", {}), "load_universal": True}
        if self.runs_compiled and deepspeed.zero_stage == 3:
            # DeepSpeed's own linear layer keeps gathered weights from staying alive until backward, as graphs do, and would
            # replace torch's after the layers are compiled: they would be compiled again.
            resolved["zero_optimization"] = {**resolved["zero_optimization"], "memory_efficient_linear": False}
        self._load_universal = load_universal
        model = PackedLossModel(lm, isolate=train.isolation == "document")
        self.zero_stage = deepspeed.zero_stage
        self.device = device
        self.heads = head_shape(lm.config)
        self.kernel = kernel_name(device, lm.dtype, self.heads[2])
        self.loss_kernel: str = lm.get_output_embeddings().kernel
        self._world_size = dist.get_world_size()
        self._seed = seed
        groups = parameter_groups(model, train, embeddings=_embeddings(lm))
        self._rate_factors = [group.rate_factor for group in groups]
        with one_thread() if device.type == "cpu" else nullcontext():
            optimizer = build_optimizer(groups, train, resolved)
            self._engine, *_ = initialize(model=model, optimizer=optimizer, config=resolved, dist_init_required=False)
            if device.type == "cpu":
                settle_run_loops(self._engine.seq_data_parallel_group)
        self._guard = atomic_step(self._engine)
        self.on_phase: Callable[[str], None] = _ignore
        """Called when forward, backward and step begin."""

    @property
    def lm(self) -> PreTrainedModel:
        """The wrapped causal LM; its parameters may be sharded."""
        lm: PreTrainedModel = self._engine.module.lm
        return lm

    @property
    def lag(self) -> int:
        """Steps whose outcomes the host need not know before it launches the next: one keeps a GPU's queue full."""
        return 1 if self.device.type == "cuda" else 0

    def accumulate(self, micro_batches: Sequence[MicroBatch], *, loss_tokens: int) -> Tensor:
        """Forward and backward over one step's micro-batches.

        Args:
            micro_batches: This worker's micro-batches.
            loss_tokens: Loss-bearing tokens of the global batch.

        Returns:
            The global batch's mean loss, nats per token, equal on all ranks: an fp64 scalar on the device.
        """
        # fp64: how the batch is divided into micro-batches and workers then changes the mean by less than fp32 resolves.
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for index, batch in enumerate(micro_batches):
            self._engine.set_gradient_accumulation_boundary(index == len(micro_batches) - 1)
            self.on_phase("forward")
            seed_dropout(self._seed, batch.first_position)
            input_ids, labels = (ids.to(self.device, non_blocking=True) for ids in (batch.input_ids, batch.labels))
            nats = self._engine(input_ids, labels, batch.segment_lengths)
            self.on_phase("backward")
            # DeepSpeed averages gradients over workers; the factor of world size turns that into a sum over the global batch.
            self._engine.backward(nats * (self._world_size / loss_tokens), scale_wrt_gas=False)
            # DeepSpeed counts micro-steps in `step`; the one at the boundary, which updates weights, is taken by our `step`.
            if index < len(micro_batches) - 1:
                self._engine.step()
            total += nats.detach().double()
        dist.all_reduce(total)
        return total / loss_tokens

    def step(self, learning_rate: float, loss: Tensor) -> Outcome:
        """Take the optimizer step, unless `loss` or the gradient is not finite.

        Returns:
            The loss, and the global gradient norm before clipping: not finite if and only if the gradients were dropped, in
            which case weights, moments and step counts are unchanged. If a gradient overflowed at the loss scale of fp16, the
            change of that scale: the same rows are to be accumulated again.
        """
        self.on_phase("step")
        # Set at every step: the schedule is a function of tokens, and DeepSpeed's schedulers count steps.
        for group, factor in zip(self._engine.optimizer.param_groups, self._rate_factors, strict=True):
            group["lr"] = factor * learning_rate
        norm = self._guard.step(loss)
        return Outcome(loss, norm, self._guard.lowered)

    def nats(self, batch: MicroBatch) -> Tensor:
        """Nats of each label of a row [N], 0 where there is none, documents isolated as in evaluation; changes nothing."""
        # The wrapped engine, not the model: at ZeRO-3 its hooks gather each layer's weights.
        self._engine.eval()
        try:
            with torch.no_grad():
                ids, labels = batch.input_ids.to(self.device), batch.labels.to(self.device)
                found: Tensor = self._engine(ids, labels, batch.segment_lengths, mask=True, per_token=True)
        finally:
            self._engine.train()
        return found

    def score(self, input_ids: Tensor, segment_lengths: tuple[int, ...], mask: bool) -> Tensor:
        """Nats of token i+1 given token i [N], without gradients; the last entry is meaningless. For the self-test."""
        labels = torch.cat([input_ids[1:], input_ids[:1]])
        row = self._fill(MicroBatch(input_ids, labels, segment_lengths))
        self._engine.eval()  # dropout would look like a leak
        try:
            with torch.no_grad():
                nats: Tensor = self._engine(row.input_ids, row.labels, row.segment_lengths, mask=mask, per_token=True)
        finally:
            self._engine.train()
        return nats[: len(input_ids)]

    def input_gradient(self, input_ids: Tensor, segment_lengths: tuple[int, ...], mask: bool) -> Tensor:
        """Largest gradient at each token's embedding [N] of the last segment's loss, in train mode. For the self-test.

        No parameter gets a gradient.
        """
        labels = torch.cat([input_ids[1:], input_ids[:1]])
        labels[: sum(segment_lengths[:-1])] = IGNORED
        row = self._fill(MicroBatch(input_ids, labels, segment_lengths))
        inputs: list[Tensor] = []

        def keep(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            inputs.append(output if output.requires_grad else output.requires_grad_())
            return output

        hook = self.lm.get_input_embeddings().register_forward_hook(keep)
        try:
            with without_leaf_hooks(self.lm):
                # The module, not the engine: DeepSpeed would count a micro-step.
                nats = self._engine.module(row.input_ids, row.labels, row.segment_lengths, mask=mask)
                (gradient,) = torch.autograd.grad(nats, inputs)
        finally:
            hook.remove()
        return gradient[0].abs().amax(-1)[: len(input_ids)]

    @property
    def runs_compiled(self) -> bool:
        """Whether the layers run compiled."""
        return self.compiled is not None and self.compiled.active

    def uncompile(self, reason: str) -> None:
        """Run compiled layers uncompiled from now on; every rank must do so."""
        if self.compiled is not None:
            remove(self.lm)
            self.compiled = self.compiled.model_copy(update={"active": False, "reason": reason})
            say_uncompiled(reason)

    def _fill(self, row: MicroBatch) -> MicroBatch:
        """Fill a row up to the size that the layers are compiled for, with segments of its own that have no labels."""
        missing = (self._row_tokens or 0) - len(row.input_ids) if self.runs_compiled else 0
        if missing <= 0:
            return row
        ids, labels = row.input_ids.new_zeros(missing), row.labels.new_full((missing,), IGNORED)
        lengths = (*row.segment_lengths, *filler_lengths(missing))
        return MicroBatch(torch.cat([row.input_ids, ids]), torch.cat([row.labels, labels]), lengths)

    def save(self, folder: Path) -> None:
        """Write this rank's part of the state under `folder`, which may differ between ranks; collective."""
        (folder / _TAG).mkdir(parents=True, exist_ok=True)
        version = {UNIVERSAL_CHECKPOINT_VERSION_KEY: UNIVERSAL_CHECKPOINT_VERSION_VALUE}
        self._engine.save_checkpoint(str(folder), tag=_TAG, client_state={"universal_checkpoint_info": version})

    def load(self, folder: Path) -> None:
        """Load a state that `save` wrote with the same number of workers and ZeRO stage, or its `universal.convert` output."""
        settings = [dict(group) for group in self._base_optimizer.param_groups]
        self._engine.load_checkpoint(str(folder), tag=_TAG)
        if self._load_universal and self.zero_stage == 3:
            self._fix_universal_stage3(settings)

    def _fix_universal_stage3(self, settings: list[dict[str, Any]]) -> None:
        """Undo what DeepSpeed 0.19 does to a universal checkpoint at stage 3; test_resume.py shows when it is fixed.

        It gives every parameter group the settings of the first, so that norms and biases would be decayed like matrices; and
        it gives all parts the same step tensor, which then counts several steps at each one.
        """
        for group, before in zip(self._base_optimizer.param_groups, settings, strict=True):
            group.update({key: value for key, value in before.items() if key != "params"})
        for state in self._base_optimizer.state.values():
            if torch.is_tensor(state["step"]):
                state["step"] = state["step"].clone()

    def state_figures(self, vocabulary_size: int) -> StateFigures:
        """The figures that identify a checkpoint's state; collective."""
        return measure_state(
            self.score,
            self._engine.optimizer,
            moments=self._moments,
            zero_stage=self.zero_stage,
            vocabulary_size=vocabulary_size,
            device=self.device,
        )

    @property
    def state_bytes(self) -> int:
        """Approximate bytes that `save` writes on this rank: master weights, moments, and weights if this rank holds them."""
        states = self._base_optimizer.state
        held = sum(3 * master.numel() * 4 for master in states) or sum(
            p.numel() * 12 for p in self.lm.parameters() if p.requires_grad
        )
        weights = sum(p.numel() * p.element_size() for p in self.lm.parameters())
        return int(held + (weights if dist.get_rank() == 0 or self.zero_stage == 3 else 0))

    @property
    def _base_optimizer(self) -> Any:
        """The Adam inside DeepSpeed's wrapper, or the optimizer itself at stage 0 in fp32."""
        return getattr(self._engine.optimizer, "optimizer", self._engine.optimizer)

    def forget_optimizer(self) -> None:
        """Set the optimizer's moments and step count to zero, as before its first step; the fp32 weights are unchanged."""
        for state in self._base_optimizer.state.values():
            for key in ("step", *self._moments):
                if isinstance(state.get(key), Tensor):
                    state[key].zero_()
                elif key in state:
                    state[key] = 0

    def close(self) -> None:
        """Free model and optimizer: the process's next run needs their memory, and DeepSpeed's hooks form reference cycles."""
        self._engine.destroy()
        del self._engine, self._guard
        gc.collect()

    def whole_state(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Unsharded weights, rounded once from the fp32 master weights, under the base model's names; empty except on rank 0.

        Gathers one tensor at a time and merges adapters. A tied weight appears only under the first of its names.
        """
        masters = self._masters_outside_zero() if self.zero_stage == 0 else {}
        state: dict[str, Tensor] = {}
        for name, parameter in self.lm.named_parameters():
            with zero.GatheredParameters([parameter], enabled=self.zero_stage == 3 and not parameter.requires_grad):
                whole = masters.get(parameter, parameter)
                if self.zero_stage > 0 and parameter.requires_grad:
                    whole = safe_get_full_fp32_param(parameter)
                if dist.get_rank() == 0:
                    state[name] = whole.detach().to("cpu", torch.float32 if self._adapted else dtype, copy=True)
        if self._adapted and state:
            state = {name: tensor.to(dtype) for name, tensor in merged(state, self.lm).items()}
        return state

    def _masters_outside_zero(self) -> dict[nn.Parameter, Tensor]:
        """Parameter to fp32 master weight where DeepSpeed's accessors find none: at stage 0 in mixed precision."""
        optimizer = self._engine.optimizer
        pairs = zip(getattr(optimizer, "fp16_groups", ()), getattr(optimizer, "fp32_groups", ()), strict=True)
        return {low: high for lows, highs in pairs for low, high in zip(lows, highs, strict=True)}


def _ignore(_: str) -> None:
    """The default `on_phase`."""


def _choose_trained(lm: PreTrainedModel, train: TrainConfig, seed: int) -> None:
    if train.lora is not None:
        add_adapters(lm, train.lora, seed=seed)
    freeze(lm, train.freeze)


def _embeddings(lm: PreTrainedModel) -> list[nn.Parameter]:
    """Parameters of the token embeddings and the output head, tied or not; positions are not among them."""
    return [*lm.get_input_embeddings().parameters(), *lm.get_output_embeddings().parameters()]


def _fuse(lm: PreTrainedModel, train: TrainConfig, device: torch.device) -> str:
    """Fuse the model's projections if `train.fuse_projections` says so, and tell why where it has no effect."""
    wanted = device.type == "cuda" if train.fuse_projections == "auto" else train.fuse_projections
    fused = fuse_projections(lm) if wanted and train.lora is None else SEPARATE
    if wanted and fused == SEPARATE and dist.get_rank() == 0:
        level = logging.INFO if train.fuse_projections == "auto" else logging.WARNING
        name = type(lm).__name__
        why = f"{name} has no layers that fit" if train.lora is None else "train.lora adapts each layer by its name"
        logger.log(level, "train.fuse_projections has no effect: %s", why)
    return fused
