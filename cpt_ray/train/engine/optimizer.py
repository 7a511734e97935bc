"""The optimizer that DeepSpeed drives: AdamW with weight decay on matrices only, on the CPU if its states are offloaded.

In: the trainable parameters of a model. Out: an optimizer that DeepSpeed's offload accepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cpt_ray.config.sections.train import TrainConfig


def build_optimizer(model: nn.Module, train: TrainConfig, resolved: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Build AdamW over the parameters that require gradients.

    Args:
        model: The model that DeepSpeed will wrap.
        train: The study's train section.
        resolved: The result of `resolve_deepspeed`.
    """
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": train.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # The engine sets the learning rate at each step.
    settings: dict[str, Any] = {"lr": 0.0, "betas": (train.beta1, train.beta2), "eps": train.epsilon}
    if offloads_optimizer(resolved):
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        optimizer: torch.optim.Optimizer = DeepSpeedCPUAdam(groups, adamw_mode=True, **settings)
        return optimizer
    return torch.optim.AdamW(groups, fused=True, **settings)


def offloads_optimizer(resolved: Mapping[str, Any]) -> bool:
    """Whether optimizer states live in host memory."""
    section = resolved.get("zero_optimization", {}).get("offload_optimizer") or {}
    return str(section.get("device", "none")) != "none"
