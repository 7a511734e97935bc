"""Compiled layers under DeepSpeed: all workers compile or none does, and ZeRO-3 gathers what a graph needs.

In: a loaded model, before DeepSpeed wraps it. Out: the same model, compiled or not, and a record of it. Guarantee: the decision
is the same on all workers, because a compiled and an uncompiled one would round differently.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import nn
from transformers import PreTrainedModel

from cpt_ray.edges.process import pretend_absent
from cpt_ray.model.layers import compiled
from cpt_ray.records import CompiledLayers

with pretend_absent("mlflow"):  # as in engine.py
    from deepspeed.runtime.zero.parameter_offload import ZeROOrderedDict, _inject_parameters
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
    from deepspeed.utils import set_z3_leaf_modules

logger = logging.getLogger(__name__)


def compile_together(
    lm: PreTrainedModel, *, tokens: int, limit_s: float, zero_stage: int, on_wait: Callable[[], None]
) -> CompiledLayers:
    """Compile the decoder layers on every worker, or on none if one of them fails; collective.

    Args:
        lm: The model, adapters included.
        tokens: Tokens of every forward pass.
        limit_s: Seconds that compiling may take.
        zero_stage: DeepSpeed's stage.
        on_wait: Called about twice a second meanwhile.

    Returns:
        What happened, the same on all workers.
    """
    if not lm.get_input_embeddings().weight.requires_grad:
        # Adapters train no embeddings. Without this, the first layer would be a graph of its own, and a leaf of ZeRO-3 whose
        # input has no gradient is reduced before its parameters have theirs.
        lm.enable_input_require_grads()
    prepare = _hold_parameters_like_zero3 if zero_stage == 3 else None
    mine = compiled.compile_layers(lm, tokens=tokens, limit_s=limit_s, prepare=prepare, on_wait=on_wait)
    found: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(found, mine.to_json())
    results = [CompiledLayers.from_json(text) for text in found]
    failed = [(rank, result.reason) for rank, result in enumerate(results) if not result.active]
    together = CompiledLayers(
        active=not failed,
        seconds=max(result.seconds for result in results),
        graphs=max(result.graphs for result in results),
        reason=f"worker {failed[0][0]}: {failed[0][1]}" if failed else None,
    )
    if failed:
        compiled.remove(lm)
        say_uncompiled(together.reason)
    elif zero_stage == 3:
        # ZeRO-3 hooks every module to gather its weights; within a graph there are no modules. A leaf is gathered whole.
        set_z3_leaf_modules(lm, sorted({type(layer) for layer in compiled.decoder_layers(lm)}, key=str))
    return together


def say_uncompiled(reason: str | None) -> None:
    """Warn, on console and in the report, that the layers run uncompiled although they should not."""
    logger.warning("layers are not compiled, training is slower: %s", reason)


def _hold_parameters_like_zero3(layer: nn.Module) -> None:
    """Hold parameters as ZeRO-3 does, gathered, in its type of dictionary: a graph is valid for one way only.

    An engine that ran before in this process has left its `linear` in torch, which asks parameters whether ZeRO-3 has them.
    """
    _inject_parameters(layer, ZeROOrderedDict)
    for parameter in layer.parameters():
        vars(parameter).update(ds_id=-1, ds_status=ZeroParamStatus.AVAILABLE)


@contextmanager
def without_leaf_hooks(lm: PreTrainedModel) -> Iterator[None]:
    """Differentiate without touching the gradients that ZeRO-3 accumulates.

    DeepSpeed gives every parameter of a leaf that has no gradient a gradient of zeros when the leaf's backward pass ends, and
    reduces it; a backward pass that is not a training step would then be counted as one.
    """
    hooks = [module._backward_hooks for module in compiled.decoder_layers(lm)]
    kept = [dict(found) for found in hooks]
    for found in hooks:
        found.clear()
    try:
        yield
    finally:
        for found, before in zip(hooks, kept, strict=True):
            found.update(before)
