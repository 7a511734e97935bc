"""The shapes of a study's models: from the record of an imported base, else from its configuration.

An imported base has a small record. Only for a base that is not imported yet is transformers loaded, to read the config.json of
a folder or hub model, or the metadata of a GGUF file.
"""

from __future__ import annotations

import functools

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.packages import resolve_package
from cpt_ray.errors import ConfigError
from cpt_ray.model.parameters import trained_shape
from cpt_ray.records import ImportedModel, ModelShape
from cpt_ray.study import store
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.stage import Graph, Node


def model_shapes(graph: Graph) -> dict[str, ModelShape]:
    """The shape of every model of a cell, and what of it `train.lora` and `train.freeze` let train.

    Raises:
        ConfigError: If a base has no configuration that can be read, or `train.lora` or `train.freeze` names what it does not
            have.
    """
    train = graph.config.train
    found = {node.name: graph.once(f"shape {node.label}", functools.partial(_describe, node)) for node in graph.of(MODELS)}
    return {name: trained_shape(model, lora=train.lora, freeze=train.freeze) for name, model in found.items()}


def _describe(node: Node[ModelConfig, ImportedModel]) -> ImportedModel:
    return store.load(node) if store.find(node) else _describe_base(node.work)


def _describe_base(model: ModelConfig) -> ImportedModel:
    if model.is_new:
        from cpt_ray.model.bases.init import describe_new

        return describe_new(model)
    from cpt_ray.model.shape import describe_base

    try:
        return describe_base(resolve_package(model.base), trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"models.{model.name}.base: the shape of {model.base!r} cannot be read: {str(error).splitlines()[0]}",
            fix="use a folder with config.json, a hub name that this machine can reach, or a .gguf file",
        ) from error
