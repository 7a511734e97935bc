"""The shapes of a study's models, before their weights are read.

In: the study's config, and its models' artifacts, imported or not. Out: `ModelShape`s, from the imported folder where it is
whole, else from the base: a folder's config.json, the hub's, or a GGUF file's metadata.
"""

from __future__ import annotations

from collections.abc import Iterable

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import resolve_package
from cpt_ray.errors import ConfigError
from cpt_ray.model.parameters import ModelShape, model_shape
from cpt_ray.records import Record
from cpt_ray.study import store
from cpt_ray.study.stages.stage import Node


def model_shapes(config: StudyConfig, models: Iterable[Node[ModelConfig, Record]]) -> dict[str, ModelShape]:
    """Read the shape of every model.

    Raises:
        ConfigError: If a base has no configuration that can be read.
    """
    shapes = {}
    for node in models:
        model = node.work
        try:
            shapes[model.name] = model_shape(
                node.folder if store.find(node) else resolve_package(model.base),
                lora=config.train.lora,
                trust_remote_code=model.trust_remote_code,
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"models.{model.name}.base: the shape of {model.base!r} cannot be read: {str(error).splitlines()[0]}",
                fix="give a folder with config.json, a hub name that this machine can reach, or a .gguf file",
            ) from error
    return shapes
