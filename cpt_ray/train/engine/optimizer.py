"""The optimizer that DeepSpeed drives, with weight decay on matrices only; on the CPU if its states are offloaded.

In: the trainable parameters of a model. Out: their groups, and an optimizer over them that DeepSpeed's offload accepts. A group
is empty in no model: DeepSpeed flattens each one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.optimization import Adafactor

from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.edges.packages import needed_for
from cpt_ray.errors import ConfigError
from cpt_ray.train.engine.operators import free_abandoned_locks


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are stepped alike."""

    parameters: tuple[nn.Parameter, ...]
    weight_decay: float
    rate_factor: float
    """Factor on the run's learning rate."""


def parameter_groups(
    model: nn.Module, train: TrainConfig, *, embeddings: Iterable[nn.Parameter] = ()
) -> tuple[ParameterGroup, ...]:
    """Group the parameters that require gradients: matrices decay, embeddings have a learning rate of their own.

    Args:
        model: The model that DeepSpeed will wrap.
        train: The study's train section.
        embeddings: Parameters of the token embeddings and the output head.

    Raises:
        ConfigError: If embeddings have a rate of their own, but none is trained.
    """
    chosen = {id(parameter) for parameter in embeddings if parameter.requires_grad}
    if not chosen and train.embedding_learning_rate_factor != 1:
        raise ConfigError(
            f"train.embedding_learning_rate_factor is {train.embedding_learning_rate_factor:g}, but train.freeze leaves "
            "neither token embeddings nor output head to train",
            fix="leave one of them out",
        )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    # Not in the order of the model, so that the groups of a model without biases are those of one with them.
    for decays in (True, False):
        for parameter in model.parameters():
            if parameter.requires_grad and (parameter.ndim >= 2) is decays:
                decay = train.weight_decay if decays else 0.0
                factor = train.embedding_learning_rate_factor if id(parameter) in chosen else 1.0
                groups.setdefault((decay, factor), []).append(parameter)
    return tuple(ParameterGroup(tuple(parameters), *key) for key, parameters in groups.items())


def build_optimizer(groups: Sequence[ParameterGroup], train: TrainConfig, resolved: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Build `train.optimizer` over groups of parameters.

    Args:
        groups: See `parameter_groups`.
        train: The study's train section.
        resolved: The result of `resolve_deepspeed`.
    """
    free_abandoned_locks()  # before the first operator is loaded, here or by the engine
    settings_by_group = [{"params": list(group.parameters), "weight_decay": group.weight_decay} for group in groups]
    # The engine sets the learning rate at each step.
    settings: dict[str, Any] = {"lr": 0.0, "betas": (train.beta1, train.beta2), "eps": train.epsilon}
    optimizer: torch.optim.Optimizer
    if train.optimizer == "adafactor":
        # A rate from outside, as AdamW has it: the sizes of weights and a schedule of its own would be the rate otherwise.
        optimizer = Adafactor(settings_by_group, lr=0.0, scale_parameter=False, relative_step=False)
    elif train.optimizer == "adamw_8bit":
        with needed_for("train.optimizer: adamw_8bit"):
            from bitsandbytes.optim import AdamW8bit

        optimizer = AdamW8bit(settings_by_group, **settings)
    elif offloads_optimizer(resolved):
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        optimizer = DeepSpeedCPUAdam(settings_by_group, adamw_mode=True, **settings)
    else:
        optimizer = torch.optim.AdamW(settings_by_group, fused=True, **settings)
    return optimizer


def offloads_optimizer(resolved: Mapping[str, Any]) -> bool:
    """Whether optimizer states live in host memory."""
    section = resolved.get("zero_optimization", {}).get("offload_optimizer") or {}
    return str(section.get("device", "none")) != "none"
