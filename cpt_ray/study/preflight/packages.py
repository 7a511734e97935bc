"""The optional packages that a study needs for what is still to be built, looked up before any of it is.

In: the study, and the stages with missing artifacts. Out: an error that names every setting whose package is missing, and the
one command that installs them all. Nothing is imported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import OPTIONAL, install_command, is_installed
from cpt_ray.errors import ConfigError
from cpt_ray.study.stages.scan import scanned_before, scanned_late


class Need(NamedTuple):
    """A setting that needs an optional package."""

    stage: str
    """The stage whose build imports it."""
    module: str
    key: str
    """The setting, with its value where that says more."""
    without: str
    """How to do without the package."""


def needed_packages(config: StudyConfig) -> Iterator[Need]:
    """Every setting of a study that needs an optional package."""
    clean = config.prepare.clean
    for model in config.models:
        if model.base.endswith(".gguf"):
            yield Need("models", "gguf", f"models.{model.name}.base", "give a folder of safetensors")
    tasks = [*scanned_before(config).tasks, *scanned_late(config).tasks]
    if tasks:
        key = "evaluate.harness_tasks" if set(tasks) <= set(config.evaluate.harness_tasks) else "prepare.decontaminate.tasks"
        yield Need("scan", "lm_eval", f"{key}: {', '.join(tasks)}", f"take the tasks out of {key}")
    for source in config.sources:
        if source.dataset is not None:
            yield Need("documents", "datasets", f"source {source.name}: dataset", "give its files as path")
    if clean.normalize:
        yield Need("documents", "ftfy", "prepare.clean.normalize", "set it to false")
    if clean.language_id.detect != "never":
        yield Need("documents", "py3langid", f"prepare.clean.language_id.detect: {clean.language_id.detect}", "set it to never")
    if config.prepare.near_duplicates.enabled:
        yield Need("documents", "rensa", "prepare.near_duplicates.enabled", "set it to false")
    if config.train.lora is not None:
        yield Need("train", "peft", "train.lora", "leave it out")
    if config.tracking.enabled and config.tracking.uri is not None:
        yield Need("train", "mlflow", "tracking.uri", "set tracking.enabled=false")
    if config.evaluate.harness_tasks:
        tasks = list(config.evaluate.harness_tasks)
        yield Need("evaluate", "lm_eval", f"evaluate.harness_tasks: {', '.join(tasks)}", "give the questions as evaluate.exams")
    if config.runtime.kind == "ray":
        for stage in ("documents", "held_out", "shards", "late_scan", "train", "evaluate"):
            yield Need(stage, "ray", "runtime.kind: ray", "set it to local")


def require_packages(config: StudyConfig, building: Collection[str]) -> None:
    """Refuse to begin what could not be finished.

    Args:
        config: The study.
        building: Names of the stages that have something to build.

    Raises:
        ConfigError: If a package is missing.
    """
    missing = {(n.module, n.key): n for n in needed_packages(config) if n.stage in building and not is_installed(n.module)}
    if missing:
        needs = list(missing.values())
        named = [f"{need.key} needs the Python package {OPTIONAL[need.module]}" for need in needs]
        without = dict.fromkeys(f"{need.key.split(':')[0]}: {need.without}" for need in needs)
        raise ConfigError(
            f"{'; '.join(named)}; not installed here",
            fix=f"{install_command(*dict.fromkeys(need.module for need in needs))}; or do without: {'; '.join(without)}",
        )
