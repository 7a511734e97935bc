"""Stages `instruct` and `merges`: models made out of finished ones, without training.

    train, models -> merges -> evaluate        instruct (imported like a base) -> merges, for an instruction residual

A merge is an export and a record of its own, with the budget of the run that it is made of; no tokens are paid for it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt_ray.config.sections.models.merges import MergeConfig
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import address, fetched_folder, in_use
from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.family import require_same_tensors, require_same_tokenizer
from cpt_ray.records import ImportedModel, Merge, RunRecord
from cpt_ray.study import store
from cpt_ray.study.inputs import base_fingerprint
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage, one_by_one
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.train.runs.merges import plan_merges
from cpt_ray.train.task import EXPORT, averaged_folder


@dataclass(frozen=True)
class Merging:
    """A merge to make."""

    merge: Merge
    model: ModelConfig
    arm: str
    key: str
    """Of its entry in the study file, for messages."""


@dataclass(frozen=True)
class Companion:
    """A model that a residual is taken from: the instruct model, or the base that it was made from."""

    model: ModelConfig
    key: str
    """In the study file, for messages."""


MergeNode = Node[Merging, RunRecord]


def companions(entry: MergeConfig) -> dict[str, Companion]:
    """The models that an instruction residual needs besides the study's own: `instruct`, and `base` if it is another one."""
    residual, place = entry.instruction_residual, f"merges.{entry.name}.instruction_residual"
    if residual is None:
        return {}
    given = {"instruct": (residual.instruct, residual.revision), "base": (residual.base, residual.base_revision)}
    return {
        role: Companion(ModelConfig(name=f"{entry.name}-{role}", base=path, revision=revision), f"{place}.{role}")
        for role, (path, revision) in given.items()
        if path is not None
    }


@contextlib.contextmanager
def named(companion: Companion) -> Iterator[None]:
    """Let messages about a companion name its key instead of one of `models`.

    Raises:
        ConfigError: The one that was raised, with the key.
    """
    try:
        yield
    except ConfigError as error:
        there = f"models.{companion.model.name}.base"
        problem, fix = (text.replace(there, companion.key) for text in (error.problem, error.fix))
        raise ConfigError(problem, fix=fix) from error


def _plan_companions(graph: Graph) -> Iterator[Planned[Companion]]:
    for entry in graph.config.merges:
        for companion in companions(entry).values():
            with named(companion):
                key = f"base {companion.model.model_dump_json()}"
                base = graph.input(key, functools.partial(base_fingerprint, companion.model, graph.hashes))
            yield Planned(companion.model.name, {"base": base}, {"revision": companion.model.revision}, companion)


def _build_companion(node: Node[Companion, ImportedModel], _: Session) -> None:
    from cpt_ray.model.base import import_base  # imports torch

    with named(node.work):
        import_base(node.work.model, node.folder)


def _plan(graph: Graph) -> Iterator[Planned[Merging]]:
    config, models = graph.config, {model.name: model for model in graph.config.models}
    for merge, spec, entry in plan_merges(config, [node.work.spec for node in graph.of(TRAIN)]):
        base = graph.one(MODELS, spec.model)
        others: dict[str, Node[Any, Any]] = {"base": base} if merge.rule != "average" else {}
        others |= {role: graph.one(INSTRUCT, companion.model.name) for role, companion in companions(entry).items()}
        yield Planned(
            name=merge.run,
            inputs={"run": graph.one(TRAIN, spec.name), "model": base, **others},
            settings=merge.model_dump(mode="json", include={"rule", "weight", "marks", "scale"}),
            work=Merging(merge, models[spec.model], spec.arm, f"merges.{entry.name}"),
        )


def _check(node: MergeNode) -> bool:
    """Refuse a residual of another family before anything is trained; False as long as a model is not imported."""
    if node.work.merge.rule != "instruction_residual":
        return True
    if not all(store.exists(node.input(role)) for role in ("model", "instruct", "base")):
        return False
    roles = {role: node.input(role).folder for role in ("model", "instruct", "base")}
    with in_use(*roles.values()):
        own = fetched_folder(roles.pop("model"))
        for role, folder in roles.items():
            fetched_folder(folder)
            key = f"{node.work.key}.instruction_residual.{role}"
            require_same_tensors(own, folder, key=key)
            require_same_tokenizer(own, folder, key=key)
    return True


def _build(node: MergeNode, _: Session) -> None:
    from cpt_ray.model.exports.merge import Combine, add_residual, average, interpolate, merge_exports  # imports torch

    _check(node)
    merge, run = node.work.merge, node.input("run").folder
    parent = RunRecord.of(run)
    others = [averaged_folder(run, mark) for mark in merge.marks]
    combine: Combine = average
    if merge.weight is not None:
        others, combine = [node.input("base").folder], interpolate(merge.weight)
    elif merge.scale is not None:
        others, combine = [node.input(role).folder for role in ("instruct", "base")], add_residual(merge.scale)
    record = RunRecord(
        run=merge.run,
        kind="merge",
        model=parent.model,
        arm=parent.arm,
        seed=parent.seed,
        budget_tokens=parent.budget_tokens,
        budget_flops=parent.budget_flops,
        parent=parent.run,
        export_path=address(node.folder / EXPORT),
        annealed=parent.annealed,
        merge=merge,
        merged_tokens=parent.tokens_seen,
    )
    with in_use(run / EXPORT, *others):
        for folder in (run / EXPORT, *others):
            fetched_folder(folder)
        merge_exports(
            node.folder / EXPORT,
            run / EXPORT,
            others,
            combine,
            card=_card(record, run / EXPORT, node.inputs, node.work),
            chat=node.input("instruct").folder if merge.scale is not None else None,
        )
    write_atomic(node.folder / RunRecord.FILE, record.to_json())


def _card(record: RunRecord, export: Path, inputs: Mapping[str, Node[Any, Any] | str], work: Merging) -> str:
    from cpt_ray.model.exports.export import model_card

    facts: dict[str, object] = {
        "name": record.run,
        "made without training": record.merge,
        "tokens seen by that run (loss-bearing)": record.tokens_seen,
        "base model": work.model.base,
    }
    # Not by their paths: a card goes with the export, to other machines.
    facts |= {f"{role} (fingerprint)": one.fingerprint for role, one in inputs.items() if isinstance(one, Node)}
    parent = (export / "README.md").read_text(encoding="utf-8")
    return f"{model_card(facts)}\n{parent}"


INSTRUCT = Stage[Companion, ImportedModel](
    name="instruct",
    version=1,
    verb="prepare",
    plan=_plan_companions,
    build=one_by_one(_build_companion),
    record=ImportedModel,
    files=("*",),
)

MERGES = Stage[Merging, RunRecord](
    name="merges",
    version=1,
    verb="train",
    plan=_plan,
    build=one_by_one(_build),
    record=RunRecord,
    files=(RunRecord.FILE, f"{EXPORT}/*"),
    early_check=_check,
)
