"""Linear layers that read the same input, computed as one product: queries, keys and values, and the gated MLP's two factors.

One wide product reads its input once and fills a GPU where the narrow ones do not: with three key heads of 64 the product for
the keys moves more bytes than it computes (arithmetic in docs/log.md). Only the computation is fused. Every weight keeps its
module, name, shape and optimizer state, so exports, checkpoints, the decay of matrices and a resume with another setting need
no conversion; the price is a copy of these weights in each forward and each backward pass.

In: a loaded model. Out: the same model, whose projections share products. Guarantee: layers are fused only where a forward
pass was seen to call all of them with one input, and where hidden states stay the same within rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from cpt_ray.model.attention.isolation import hidden_states

SEPARATE = "separate projections"

logger = logging.getLogger(__name__)

_GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_NAME = "fused_{}"
_PROOF_TOKENS = 16
_SAME = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of hidden states that counts as rounding, relative in the L2 norm."""


class _FusedProduct(torch.autograd.Function):
    """`x @ cat(weights).T + cat(biases)`; saves the parameters themselves, so that ZeRO-3 can shard them until backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, layers: int, *parameters: Tensor) -> Tensor:
        """Compute the product.

        Args:
            ctx: Autograd's context.
            hidden: [.., H].
            layers: Number of weights.
            *parameters: Weights [R_i, H], then none or as many biases [R_i].

        Returns:
            [.., sum of R_i].
        """
        weights, biases = parameters[:layers], parameters[layers:]
        ctx.save_for_backward(hidden, *weights)
        ctx.rows = [weight.shape[0] for weight in weights]
        ctx.biased = bool(biases)
        return nn.functional.linear(hidden, torch.cat(weights), torch.cat(biases) if biases else None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One product for the input's gradient and one for those of all weights."""
        hidden, *weights = ctx.saved_tensors
        grad_hidden = _times_whole(grad, weights) if ctx.needs_input_grad[0] else None
        flat = grad.reshape(-1, grad.shape[-1])
        if not any(ctx.needs_input_grad[2:]):  # all of them are frozen
            return grad_hidden, None, *(None for _ in ctx.needs_input_grad[2:])
        grad_weights = (flat.T @ hidden.reshape(-1, hidden.shape[-1])).split(ctx.rows)
        grad_biases = flat.sum(0).split(ctx.rows) if ctx.biased else ()
        return grad_hidden, None, *grad_weights, *grad_biases


def _times_whole(grad: Tensor, weights: Sequence[Tensor]) -> Tensor:
    # With gradient checkpointing, DeepSpeed shards the weights again when the recomputed forward pass ends, before this runs.
    # Its own linear function has the same lines (deepspeed/runtime/zero/linear.py, 0.19.8).
    # In a compiled layer weights are arguments of the graph, and whole.
    sharded = [] if torch.compiler.is_compiling() else [weight for weight in weights if _is_sharded(weight)]
    for weight in sharded:
        weight.all_gather()  # type: ignore[attr-defined]
    result = grad @ torch.cat(list(weights))
    for weight in sharded:
        weight.partition()  # type: ignore[attr-defined]
    return result


def _is_sharded(weight: Tensor) -> bool:
    return getattr(getattr(weight, "ds_status", None), "name", None) == "NOT_AVAILABLE"


class FusedLinear(nn.Module):
    """The shared product of a few linear layers, whose parameters it holds a second time.

    It is a module, and is called as one, because ZeRO-3 gathers parameters around the call of a module that holds them. It adds
    nothing to the state dict, so that a checkpoint is the same with it and without.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self._rows = [layer.out_features for layer in layers]
        for index, layer in enumerate(layers):
            for kind, parameter in layer.named_parameters():
                self.register_parameter(f"{kind}_{index}", parameter)
        self._input: Tensor | None = None
        self._parts: list[Any] = []

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [.., H] to the products of all layers, side by side."""
        layers = range(len(self._rows))
        weights: list[Tensor] = [self.get_parameter(f"weight_{index}") for index in layers]
        biases: list[Tensor] = [self.get_parameter(f"bias_{index}") for index in layers] if hasattr(self, "bias_0") else []
        if not torch.is_grad_enabled():
            # Not only shorter: torch 2.13 cannot trace an autograd function with a variable number of arguments then.
            return nn.functional.linear(hidden, torch.cat(weights), torch.cat(biases) if biases else None)
        product: Tensor = _FusedProduct.apply(hidden, len(weights), *weights, *biases)  # type: ignore[no-untyped-call]
        return product

    def part(self, index: int, hidden: Tensor) -> Tensor:
        """The product of one layer [.., R_index]; computed for all with the first, and kept until each has taken its own."""
        if self._input is not hidden or self._parts[index] is None:
            self._input, self._parts = hidden, list(self(hidden).split(self._rows, -1))
        found: Tensor = self._parts[index]
        self._parts[index] = None
        if all(part is None for part in self._parts):
            self._input, self._parts = None, []
        return found

    @property
    def idle(self) -> bool:
        """Whether every part that was computed has been taken."""
        return self._input is None

    def _save_to_state_dict(self, *_: Any) -> None:
        """The layers save their parameters."""

    def _load_from_state_dict(self, *_: Any) -> None:
        """The layers load their parameters."""


class _Part(nn.Linear):
    """A linear layer that takes its share of a fused product; it becomes one by a change of its class."""

    fused: FusedLinear
    index: int

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the layer's product, without the hooks of a module's call: ZeRO-3's would gather its weight once more."""
        return self.fused.part(self.index, hidden)


class _Group:
    """Layers of one module that may share a product, and the switch."""

    def __init__(self, parent: nn.Module, names: tuple[str, ...]) -> None:
        self.parent, self.names, self.calls = parent, names, 0
        self.layers: list[Any] = [parent.get_submodule(name) for name in names]
        self.fused = FusedLinear(self.layers)

    def fuse(self) -> None:
        self.parent.add_module(_NAME.format(self.names[0]), self.fused)
        for index, layer in enumerate(self.layers):
            layer.__class__ = _Part
            # Not by assignment, which would make it a child of each of them.
            vars(layer).update(fused=self.fused, index=index)

    def separate(self) -> None:
        delattr(self.parent, _NAME.format(self.names[0]))
        for layer in self.layers:
            layer.__class__ = nn.Linear
            del vars(layer)["fused"], vars(layer)["index"]

    def count(self, *_: Any) -> None:
        self.calls += 1


def fuse_projections(model: PreTrainedModel) -> str:
    """Fuse the projections of `model` in place where its structure allows it; proven by two forward passes over a few tokens.

    Args:
        model: A causal LM on which `use_document_attention` was called, without adapters.

    Returns:
        What is fused and in how many layers, for the run's record; `SEPARATE` if nothing is.
    """
    groups = list(_find(model))
    if not groups:
        return SEPARATE
    training = model.training
    model.eval()
    before = _probe(model)
    for group in groups:
        group.fuse()
    hooks = [group.fused.register_forward_hook(group.count) for group in groups]
    after = _probe(model)
    for hook in hooks:
        hook.remove()
    model.train(training)
    off = float((after - before).norm() / before.norm())
    if not (same := off <= _SAME[model.dtype]):
        name = type(model).__name__
        logger.warning("fused projections change the hidden states of %s by %.2g, so they stay separate", name, off)
    # A layer that another input feeds leaves parts that nobody took; an expert that no token reached was never called.
    fits = [group for group in groups if same and group.calls and group.fused.idle]
    for group in groups:
        if group not in fits:
            group.separate()
    counts = {"+".join(names): sum(group.names == names for group in fits) for names in _GROUPS}
    return ", ".join(f"{names} in {_layers(count)}" for names, count in counts.items() if count) or SEPARATE


def _layers(count: int) -> str:
    return f"{count} {'layer' if count == 1 else 'layers'}"


def _find(model: nn.Module) -> Iterator[_Group]:
    for parent in list(model.modules()):
        for names in _GROUPS:
            layers = [parent._modules.get(name) for name in names]
            # Exactly: a subclass (quantized, adapted, parallel) computes something else than its weight says.
            if not all(type(layer) is nn.Linear for layer in layers):
                continue
            kinds = {(layer.in_features, layer.bias is None, layer.weight.dtype, layer.weight.device) for layer in layers}  # type: ignore[union-attr]
            if len(kinds) == 1:
                yield _Group(parent, names)


@torch.no_grad()
def _probe(model: PreTrainedModel) -> Tensor:
    ids = torch.arange(_PROOF_TOKENS, device=model.device) % model.config.vocab_size
    return hidden_states(model, ids, (_PROOF_TOKENS,)).float()
