"""LoRA: low-rank adapters on linear layers, and their merge into plain weights (Hu et al. 2021, section 4.1).

In: a loaded model and `train.lora`. Out: the same model with trainable adapters and a frozen base; or, from gathered
tensors, the state of a plain model. Guarantee: the merged state has the names of the base model, so an export needs no peft.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.edges.packages import needed_for
from cpt_ray.model.parameters import check_targets

_NAME = "default"


def add_adapters(model: PreTrainedModel, lora: LoraSection, *, seed: int = 0) -> None:
    """Add adapters to `model` in place and freeze everything else. A fresh adapter changes nothing: its B is zero.

    Args:
        model: A causal LM; its output head gets no adapter.
        lora: Rank, scale, dropout, targets.
        seed: Seed of the adapters' A; every worker must pass the same.

    Raises:
        ConfigError: If one of the names matches no linear layer.
    """
    with needed_for("train.lora"):
        from peft import LoraConfig, inject_adapter_in_model

    linear = sorted({name.rpartition(".")[2] for name, m in model.base_model.named_modules() if isinstance(m, nn.Linear)})
    targets = check_targets(lora, linear, type(model).__name__)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, bias="none"
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, adapter_name=_NAME)


def merged(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Fold adapters into the weights they adapt: `W + scale * B @ A`.

    Args:
        state: Parameter name to whole tensor, including adapters; fp32, so that a small update is not rounded away first.
        model: The model with adapters; provides their scales.

    Returns:
        Parameter name to tensor, as in the base model.
    """
    plain = {name: tensor for name, tensor in state.items() if ".lora_" not in name}
    result = {name.replace(".base_layer.", "."): tensor for name, tensor in plain.items()}
    for name, module in model.named_modules():
        scaling: Any = getattr(module, "scaling", None)
        if isinstance(scaling, dict) and f"{name}.lora_A.{_NAME}.weight" in state:
            update = state[f"{name}.lora_B.{_NAME}.weight"] @ state[f"{name}.lora_A.{_NAME}.weight"]
            result[f"{name}.weight"] = result[f"{name}.weight"] + scaling[_NAME] * update
    return result
