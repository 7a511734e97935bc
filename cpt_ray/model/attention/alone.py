"""The isolation self-test on a whole model in one process, as it is before an engine trains it.

In: a causal LM with document attention and a `LossHead`. Out: a `SelfTest`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cpt_ray.model.attention.isolation import head_shape, hidden_states, kernel_name
from cpt_ray.model.attention.self_test import run_self_test
from cpt_ray.model.loss import IGNORED
from cpt_ray.records import SelfTest


def self_test(model: PreTrainedModel) -> SelfTest:
    """Run the self-test on a model in fp32 on the CPU, in eval mode."""
    head: Any = model.get_output_embeddings()

    def score(input_ids: Tensor, lengths: tuple[int, ...], mask: bool) -> Tensor:
        with torch.no_grad():
            hidden = hidden_states(model, input_ids, lengths, mask=mask)
            nats: Tensor = head(hidden, torch.cat([input_ids[1:], input_ids[:1]]), per_token=True)
        return nats

    def input_gradient(input_ids: Tensor, lengths: tuple[int, ...], mask: bool) -> Tensor:
        labels = torch.cat([input_ids[1:], input_ids[:1]])
        labels[: sum(lengths[:-1])] = IGNORED
        inputs: list[Tensor] = []

        def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
            inputs.append(output)

        hook = model.get_input_embeddings().register_forward_hook(keep)
        try:
            nats = head(hidden_states(model, input_ids, lengths, mask=mask), labels)
            (gradient,) = torch.autograd.grad(nats, inputs)
        finally:
            hook.remove()
        return gradient[0].abs().amax(-1)

    heads = head_shape(model.config)
    kernel = kernel_name(torch.device("cpu"), torch.float32, heads[2])
    return run_self_test(
        score,
        input_gradient,
        vocabulary_size=model.get_input_embeddings().weight.shape[0],
        heads=heads,
        kernel=kernel,
        precision="fp32",
        device=torch.device("cpu"),
    )
