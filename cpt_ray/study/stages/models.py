"""Stage `models`: each base model and its tokenizer, imported into a folder that everything else loads."""

from __future__ import annotations

from collections.abc import Iterator

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.records import ImportedModel
from cpt_ray.study.inputs import base_fingerprint
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one


def _plan(graph: Graph) -> Iterator[Planned[ModelConfig]]:
    for model in graph.config.models:
        yield Planned(
            name=model.name,
            inputs={"base": base_fingerprint(model)},
            settings={"tokenizer": model.tokenizer, "revision": model.revision, "new_tokens": model.new_tokens},
            work=model,
        )


def _build(node: Node[ModelConfig, ImportedModel], _: Session) -> None:
    from cpt_ray.model.base import import_base  # imports torch, which a verb that builds nothing must not pay for

    import_base(node.work, node.folder)


MODELS = Stage[ModelConfig, ImportedModel](
    name="models", version=2, verb="prepare", plan=_plan, build=one_by_one(_build), record=ImportedModel, files=("*",)
)
