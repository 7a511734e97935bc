"""The output head of a causal LM as losses and scores: the same one in training and in evaluation.

Models differ in what they do after the output embedding: Gemma 2 caps its logits, Granite and Cohere scale them, Phi adds a
bias; and the same config key divides in one architecture and multiplies in another. So the rule is not inferred from names:
candidates are read from the config, and the model's forward pass decides which is right. If none is, the model is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from cpt_ray.errors import ConfigError
from cpt_ray.model.layers.loss_kernels import COMPILED, choose_kernel, summed_nats
from cpt_ray.model.loss import LogitRule, token_nats

_PROBE_ROWS = 16
_PROBE_LOGIT = 40.0
"""Size of the probe's products: around the usual caps of 30 and 50, so that a cap shows."""

_SAME = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Largest difference of logits that counts as rounding, as a share of the largest logit."""


@dataclass
class _BodyOutput(MoeModelOutputWithPast):  # type: ignore[misc]
    """What models read of their body's output: GPT-2 reads cross-attentions, mixtures of experts read router logits."""

    cross_attentions: tuple[Tensor, ...] | None = None


class LossHead(nn.Module):
    """An output embedding that returns losses instead of logits when it is given labels.

    It keeps the parameters' names, and is called as a module: ZeRO-3 gathers a parameter only around its module's call.
    Without labels it returns the product, which the model's forward pass turns into logits.
    """

    def __init__(self, output_embedding: nn.Module, rule: LogitRule) -> None:
        super().__init__()
        weight, bias = output_embedding.weight, getattr(output_embedding, "bias", None)
        if not isinstance(weight, nn.Parameter):
            raise ConfigError("the output embedding has no weight parameter", fix="use a model with a linear output head")
        self.weight = weight
        self.bias: nn.Parameter | None = bias
        self.rule = rule

    def forward(self, hidden: Tensor, labels: Tensor | None = None, *, per_token: bool = False) -> Tensor:
        """Return products [.., V] without labels, else the sum in nats, or with `per_token` nats [N] without gradients."""
        if labels is None:
            return nn.functional.linear(hidden, self.weight, self.bias)
        if per_token:
            return token_nats(hidden, self.weight, labels, self.bias, self.rule, compiled=self.kernel == COMPILED)
        return summed_nats(self.kernel, hidden, self.weight, labels, self.bias, self.rule)

    def logits(self, hidden: Tensor) -> Tensor:
        """The model's logits, fp32 [N, V]."""
        return self.rule.apply(self(hidden).float())

    @cached_property
    def kernel(self) -> str:
        """The loss kernel, chosen when it is first needed, for the device that the weights are on by then."""
        return choose_kernel(self.weight.device, self.weight.dtype, self.rule, biased=self.bias is not None)


def install_loss_head(model: PreTrainedModel) -> None:
    """Replace the output embedding of `model` with a `LossHead` that follows the model's logit rule.

    Raises:
        ConfigError: If no known rule reproduces the model's logits.
    """
    output_embedding = model.get_output_embeddings()
    if output_embedding is None:
        raise ConfigError(f"{type(model).__name__} has no output embedding", fix="use a causal language model")
    model.set_output_embeddings(LossHead(output_embedding, find_rule(model)))


@torch.no_grad()
def find_rule(model: PreTrainedModel) -> LogitRule:
    """Find out what `model` does after its output embedding, by feeding its head hidden states and reading its logits.

    The body does not run: a stub replaces it, so the cost is one small matrix product.

    Raises:
        ConfigError: If no candidate reproduces the model's logits within rounding.
    """
    embedding = model.get_output_embeddings()
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(_PROBE_ROWS, embedding.weight.shape[1], generator=generator).to(embedding.weight)
    product = embedding(hidden)
    hidden = hidden * (_PROBE_LOGIT / product.float().abs().max().clamp(min=1e-6)).to(hidden.dtype)
    product = embedding(hidden).float()
    own = _own_logits(model, hidden)
    if own is not None and own.shape == product.shape:
        for rule in _candidates(model.config):
            difference = (rule.apply(product) - own).abs().max()
            if difference <= _SAME[model.dtype] * own.abs().max():
                return rule
    raise ConfigError(
        f"{type(model).__name__} computes its logits in an unsupported way: they are not its final hidden states "
        "times the output embedding, with a bias, a scale or a softcap",
        fix="use a model of another architecture; the loss and the scores would omit that step",
    )


def _candidates(config: Any) -> Iterator[LogitRule]:
    """Rules that the config could mean, the most specific first."""
    named = [getattr(config, key, None) for key in ("logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")]
    factors = [float(value) for value in named if value]
    scales = [*factors, *(1 / factor for factor in factors), 1.0]
    caps = [getattr(config, "final_logit_softcapping", None), None]
    yield from (LogitRule(scale, cap) for cap in dict.fromkeys(caps) for scale in dict.fromkeys(scales))


def _own_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor | None:
    """The model's logits for hidden states [N, H], fp32 [N, V]; None if its forward pass does not call its base model."""
    body, called = model.base_model, []

    def stub(*_: Any, **__: Any) -> _BodyOutput:
        called.append(True)
        return _BodyOutput(last_hidden_state=hidden[None])

    body.forward = stub
    try:
        ids = torch.zeros(1, hidden.shape[0], dtype=torch.long, device=hidden.device)
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    finally:
        del body.forward
    return logits[0].float() if called else None
