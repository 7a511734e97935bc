"""Stage `train`: every run of the study, trained by groups of workers; a branch waits for its parent's checkpoint."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt_ray.config.budgets import check_tokens
from cpt_ray.config.deepspeed import PACKAGED, DeepSpeedConfig, load_deepspeed
from cpt_ray.config.domains import root_of
from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.config.values import format_count
from cpt_ray.edges.storage import unwritable, write_atomic
from cpt_ray.edges.store import fresh, is_mirrored
from cpt_ray.errors import ConfigError
from cpt_ray.plan.budget import tokens_for_flops
from cpt_ray.records import RunRecord, RunSpec, ShardManifest
from cpt_ray.study import store
from cpt_ray.study.cost.shapes import model_shapes
from cpt_ray.study.live.observer import StudyObserver
from cpt_ray.study.stages.filter.derived import DERIVED, Deriving, derived_name
from cpt_ray.study.stages.models import MODELS
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Graph, Node, Planned, Session, Stage
from cpt_ray.train.engine.optimizer_kinds import check_optimizer
from cpt_ray.train.runs.specs import plan_runs
from cpt_ray.train.task import AVERAGED, EXPORT, POINTS, RunSettings, TrainTask

_NOT_IN_RESULT = {
    "budgets",
    "budgets_flops",
    "budget_mode",
    "chain",
    "trajectory_tokens",
    "trajectory_points",
    "learning_rate",
    "learning_rate_factor",
    "schedule",
    "control_budgets",
    "micro_batch_size",
    "gradient_checkpointing",
    "compile",
    "fuse_projections",
    "compile_limit",
    "checkpoint_every",
    "keep_checkpoints",
    "deepspeed",
    "guards",
    "watch",
}
"""Keys of `train` that are already in a run's spec, or that change memory and speed but not the result."""


EXPORTS = "exports"
"""Folder of links to the exports of all runs, below the study's root."""
_ON_THE_WAY = (f"{POINTS}/**/*", f"{AVERAGED}/**/*")
"""Models that a run exports before its end."""

_TOLD = (RunRecord.FILE, "metrics/*", "attempts/*", "events/*", "memory/*", "held_out/*")
"""What a run says of itself."""

_DERIVED = "derived-"
"""Begins the names of the inputs that are derived sources."""


@dataclass(frozen=True)
class Training:
    """One run: what its workers get, except folders and lease."""

    spec: RunSpec
    settings: RunSettings


RunNode = Node[Training, RunRecord]


def deepspeed_path(name: str, config_path: Path) -> Path:
    """Where `train.deepspeed` points: relative to the working directory, else to the study file, else in this package."""
    path = Path(name)
    places = (path, config_path.parent / path, PACKAGED / path)
    return next((place for place in places if place.exists()), path).resolve()


def deepspeed_of(graph: Graph) -> DeepSpeedConfig:
    """The checked DeepSpeed JSON of a cell, read once for all cells."""
    name = graph.config.train.deepspeed
    text = graph.input(f"deepspeed {name}", lambda: load_deepspeed(deepspeed_path(name, graph.config_path)).to_json())
    return graph.once(f"deepspeed {name}", lambda: DeepSpeedConfig.from_json(text))


def _plan(graph: Graph) -> Iterator[Planned[Training]]:
    config = graph.config
    deepspeed = deepspeed_of(graph)
    check_optimizer(config.train, deepspeed, config.runtime.group)
    models = {model.name: model for model in config.models}
    licenses = {source.name: root_of(source, config.sources).license for source in config.sources}
    # The content of the DeepSpeed file, not its path, so that moving the file rebuilds nothing and editing it does.
    settings = config.train.model_dump(mode="json", exclude=_NOT_IN_RESULT)
    settings["deepspeed"] = deepspeed.tree
    for spec in plan_runs(config, _flops_budgets(graph)):
        parent = {"parent": graph.one(TRAIN, spec.parent)} if spec.parent else {}
        derived = {f"{_DERIVED}{name}": node for name, node in derived_shards(graph, spec.model, spec.arm).items()}
        yield Planned(
            name=spec.name,
            # The parent is an input, so a changed trunk rebuilds its branches.
            inputs={"model": graph.one(MODELS, spec.model), "shards": graph.one(SHARDS, spec.model), **derived, **parent},
            settings={
                **settings,
                **_mixture_settings(config.arms[spec.arm], spec),
                "spec": _spec_settings(spec),
            },
            work=Training(
                spec,
                RunSettings(
                    study=config.study.name,
                    model=models[spec.model],
                    arm=config.arms[spec.arm],
                    train=config.train,
                    deepspeed=deepspeed,
                    licenses=licenses,
                ),
            ),
        )


def derived_shards(graph: Graph, model: str, arm: str) -> dict[str, Node[Deriving, ShardManifest]]:
    """The shards of the derived sources that an arm draws, by source."""
    drawn = {source for mix in graph.config.arms[arm].mixes().values() for source in mix}
    return {
        source.name: graph.one(DERIVED, derived_name(model, source.name))
        for source in graph.config.derived_sources
        if source.name in drawn
    }


def link_exports(root: Path, runs: Mapping[str, Node[Any, RunRecord]]) -> None:
    """Link `<root>/exports/RUN` to the export of each budget and merge as it is now, in place of an older link.

    A run's folder has its fingerprint in its name, so another study could not name it as a base; the link it can. What is
    behind the link is hashed like the files of any base, so a base that is trained again changes what depends on it.

    Args:
        root: The study's root.
        runs: Runs and merges by their names in the study.

    Raises:
        ArtifactError: If the folder cannot be written.
    """
    for name, node in runs.items():
        export, link = node.folder / EXPORT, root / EXPORTS / name
        target = os.path.relpath(export, link.parent)
        if is_mirrored(root):
            # A store has no links: the object holds the path, which `cpt-ray fetch ROOT exports/RUN` follows.
            made = any(entry.path.startswith(f"{EXPORT}/") for entry in store.read(node).files)
            if made and (not fresh(link).exists() or link.read_text(encoding="utf-8") != target):
                write_atomic(link, target)
            continue
        if not export.is_dir() or (link.is_symlink() and os.readlink(link) == target):
            continue
        temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}.tmp")
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            temporary.symlink_to(target, target_is_directory=True)
            os.replace(temporary, link)  # a reader sees the old export or the new one
        except OSError as error:
            raise unwritable(link, error) from error


def _mixture_settings(arm: ArmConfig, spec: RunSpec) -> dict[str, object]:
    """The settings of an arm that decide a run's rows; a trunk has no cooldown, so it leaves out the cooldown's mixture."""
    settings = arm.model_dump(mode="json", include={"mix", "segments", "cooldown_mix"})
    if spec.schedule.decay_start_tokens is None:
        del settings["cooldown_mix"]
    return settings


def _spec_settings(spec: RunSpec) -> dict[str, object]:
    """What of a spec shapes the result; without marks for an average it is what it was before there were any."""
    settings = spec.model_dump(mode="json", exclude={"name", "model", "arm", "parent", "budget_flops"})
    if not spec.average_tokens:
        del settings["average_tokens"]
    return settings


def trained_again(graph: Graph, root: Path) -> Iterator[str]:
    """Of each run that is trained, but did not keep the weights that an average now needs, that it will be trained again.

    Args:
        graph: The study.
        root: Of its artifacts.
    """
    for node in graph.of(TRAIN):
        spec = node.work.spec
        if not spec.average_tokens or store.exists(node):
            continue
        plain = spec.model_copy(update={"average_tokens": ()})
        settings = {**node.settings, "spec": _spec_settings(plain)}
        if store.exists(store.locate(root, TRAIN, Planned(node.name, node.inputs, settings, node.work))):
            tokens = spec.stop_tokens - spec.start_tokens
            yield (
                f"run {node.name} is trained, but kept none of the {len(spec.average_tokens)} models of its cooldown that an "
                f"average in merges needs: it will be trained again, {format_count(tokens)} tokens, to the same export; "
                "interpolate and instruction_residual need no training"
            )


def _flops_budgets(graph: Graph) -> dict[str, tuple[int, ...]] | None:
    """Tokens that `train.budgets_flops` buys, per model; None if budgets are given in tokens."""
    config = graph.config
    flops = config.train.budgets_flops
    if flops is None:
        return None
    length = config.prepare.pack.sequence_length
    shapes = model_shapes(graph)
    budgets = {name: tokens_for_flops(flops, shape, sequence_length=length) for name, shape in shapes.items()}
    for name, tokens in budgets.items():
        try:
            check_tokens(config.train, tokens, name)
        except ValueError as error:
            raise ConfigError(str(error), fix="change one of the keys that the message names, or train.budgets_flops") from None
    return budgets


def _build(nodes: Sequence[RunNode], session: Session) -> None:
    """Train runs side by side in groups of workers, as far as there is room; each is committed as it ends."""
    if session.runtime.kind != "local":
        session.need_ray()
    from cpt_ray.train.groups.launch import run_training
    from cpt_ray.train.monitor.metrics import clear_run

    session.console.progress(f"  starting {session.runtime.group} worker(s) for {len(nodes)} run(s)")
    for node in nodes:
        clear_run(node.folder)  # what was deleted in a bucket, or left by another driver, would be taken for the run's
    run_training(
        [_task(node, session) for node in nodes],
        name=f"{nodes[0].work.settings.study}-{session.attempt}",
        runtime=session.runtime,
        storage=session.root / "ray",
        observer=StudyObserver(nodes, session),
    )


def _task(node: RunNode, session: Session) -> TrainTask:
    runtime, shards = session.runtime, node.input("shards")
    parent = node.input("parent") if "parent" in node.inputs else None
    derived = [node.input(name) for name in node.inputs if name.startswith(_DERIVED)]
    return TrainTask(
        spec=node.work.spec,
        settings=node.work.settings,
        model_folder=str(node.input("model").folder),
        shards_folder=str(shards.folder),
        held_out_folder=str(shards.input("held_out").folder),
        derived_folders=tuple(str(one.folder) for one in derived),
        data_fingerprint=store.fingerprint([one.fingerprint for one in (shards, *derived)]) if derived else shards.fingerprint,
        run_folder=str(node.folder),
        parent_folder=str(parent.folder) if parent else None,
        fingerprint=node.fingerprint,
        parent_fingerprint=parent.fingerprint if parent else None,
        lease_path=str(session.lease_path),
        lease_attempt=session.attempt,
        scratch=runtime.scratch,
        runtime=runtime,
        threads=max(1, int(runtime.cpus_per_worker)) if runtime.kind == "ray" else None,
    )


TRAIN = Stage[Training, RunRecord](
    name="train",
    version=2,
    verb="train",
    plan=_plan,
    build=_build,
    record=RunRecord,
    # Checkpoints and heartbeats are not part of the artifact.
    files=(*_TOLD, "export/*", *_ON_THE_WAY),
    driver_files=(*_TOLD, f"{POINTS}/*/{RunRecord.FILE}"),
)
