"""Parameter and FLOP arithmetic of a causal LM, from its shape; `model.shape` reads the shape of a model."""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.errors import ConfigError
from cpt_ray.model.layers.freezing import frozen_names
from cpt_ray.records import ImportedModel, ModelShape

FLOPS_BASIS = (
    "6 x matrix parameters (output head counted, embedding lookups not) + 12 x layers x heads x head size x keys per token, "
    "forward and backward; keys are those a token attends to: causal, within its own document; recomputation is not "
    "counted, padding is (PaLM, appendix B)"
)
"""How `flops_per_token` counts; printed with every MFU."""


def trained_shape(model: ImportedModel, *, lora: LoraSection | None, freeze: Sequence[str]) -> ModelShape:
    """A model's shape with what trains of it: the adapters that `train.lora` adds, or all but what `train.freeze` chooses.

    Raises:
        ConfigError: If a name or pattern matches nothing, or nothing would train.
    """
    if lora is None and not freeze:
        return model.shape
    if lora is None:
        frozen = frozen_names(freeze, {n: n for n in model.parameter_sizes} | model.tied_names, model.architecture)
        lookup = set() if model.shape.tied else {model.input_embedding}
        return model.shape.model_copy(
            update={
                "frozen_parameters": sum(model.parameter_sizes[name] for name in frozen),
                "frozen_matrices": sum(model.parameter_sizes[name] for name in frozen if name not in lookup),
            }
        )
    names = check_targets(lora, list(model.linear_sizes), model.architecture)
    return model.shape.model_copy(update={"adapter_parameters": lora.rank * sum(model.linear_sizes[name] for name in names)})


def check_targets(lora: LoraSection, linear: list[str], architecture: str) -> list[str]:
    """The names of the linear layers that get adapters.

    Args:
        lora: `train.lora`; without targets, all linear layers get adapters.
        linear: Names of the model's linear layers, except the output head.
        architecture: The model's name in the message.

    Raises:
        ConfigError: If one of the names matches no linear layer.
    """
    targets = list(lora.target_modules) or linear
    if missing := [name for name in targets if name not in linear]:
        raise ConfigError(
            f"train.lora.target_modules: {architecture} has no linear layer called {', '.join(missing)}",
            fix=f"choose from {', '.join(linear)}" if linear else "train all weights: this model has no linear layers to adapt",
        )
    return targets


def flops_per_token(shape: ModelShape, mean_keys: float) -> float:
    """Training FLOPs per token, forward and backward.

    6 * (body + vocabulary * hidden) + 12 * layers * heads * head_dim * mean_keys (PaLM, appendix B,
    with the keys actually attended to). Frozen matrices have no weight gradient, a third of the 6; adapters do. The gradient of
    activations is counted in all layers, also below the first that trains.

    Args:
        shape: The model.
        mean_keys: Mean keys a token attends to: T/2 for a causal row of T; sum(l^2) / (2 * sum(l)) for segments of length l.
    """
    matrices = shape.body_parameters + shape.vocabulary_size * shape.hidden_size
    weights = 6.0 * matrices - 2.0 * shape.frozen_matrices
    if shape.adapter_parameters is not None:
        weights = 4.0 * matrices + 6.0 * shape.adapter_parameters
    return weights + 12.0 * shape.num_layers * shape.num_heads * shape.head_dim * mean_keys
