"""The optional packages that a study needs for what is still to be built, looked up before any of it is.

In: the study, and the stages with missing artifacts. Out: an error that names every setting whose package is missing, and the
one command that installs them all. Nothing is imported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import OPTIONAL, install_command, is_installed
from cpt_ray.edges.tracking.mirrored import database_of
from cpt_ray.errors import ConfigError
from cpt_ray.study.stages.scans.scan import scanned_before, scanned_late

_ON_RAY = (
    *("documents", "held_out", "classifier", "scores", "shards", "yield", "derived", "arms", "late_scan"),
    *("train", "evaluate"),
)
"""The stages whose work Ray runs."""


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
    for key in (f"models.{model.name}.base" for model in config.models if model.base.endswith(".gguf")):
        yield Need("models", "gguf", key, f"give a folder of safetensors as {key}")
    for place in (f"source {source.name}" for source in config.sources if source.dataset is not None):
        yield Need("documents", "datasets", f"{place}: dataset", f"give the files of {place} as path")
    if clean.normalize:
        yield Need("documents", "ftfy", "prepare.clean.normalize", "set prepare.clean.normalize=false")
    if clean.language_id.detect != "never":
        key = "prepare.clean.language_id.detect"
        yield Need("documents", "py3langid", f"{key}: {clean.language_id.detect}", f"set {key}=never")
    if config.prepare.near_duplicates.enabled:
        key = "prepare.near_duplicates.enabled"
        yield Need("documents", "rensa", key, f"set {key}=false")
    yield from _classifiers(config)
    if config.train.lora is not None:
        yield Need("train", "peft", "train.lora", "leave train.lora out")
    if config.train.optimizer == "adamw_8bit":
        yield Need("train", "bitsandbytes", "train.optimizer: adamw_8bit", "set train.optimizer=adamw")
    if config.tracking.enabled and config.tracking.uri is not None:
        yield Need("train", "mlflow", "tracking.uri", "set tracking.enabled=false")
        if database_of(config.tracking.uri) is not None:
            yield Need("train", "sqlalchemy", "tracking.uri: a database", "set tracking.uri to a server")
    if config.tracking.wandb:
        yield Need("train", "wandb", "tracking.wandb", "set tracking.wandb=false")
    yield from _lm_eval(config)
    if config.runtime.kind == "ray":
        for stage in _ON_RAY:
            yield Need(stage, "ray", "runtime.kind: ray", "set runtime.kind=local")


def _classifiers(config: StudyConfig) -> Iterator[Need]:
    loaded_by = {"fasttext": "fasttext", "sklearn": "skops"}
    for classifier in config.classifiers:
        key, without = f"classifiers.{classifier.name}", "leave classifiers and the sources derived by them out"
        # Whatever the model, scikit-learn calibrates and measures it; its own pipelines need it to score, too.
        yield Need("classifier", "sklearn", key, without)
        if classifier.model == "sklearn":
            yield Need("scores", "sklearn", key, without)
        if module := loaded_by.get(classifier.model):
            for stage in ("classifier", "scores"):
                yield Need(stage, module, f"{key}.model: {classifier.model}", f"set {key}.model to another kind")


def _lm_eval(config: StudyConfig) -> Iterator[Need]:
    scored = config.evaluate.harness_names
    scanned = (*scanned_before(config).tasks, *scanned_late(config).tasks)
    for stage, key, tasks in (
        ("evaluate", "evaluate.harness_tasks", scored),
        ("scan", "evaluate.harness_tasks", [task for task in scanned if task in scored]),
        ("scan", "prepare.decontaminate.tasks", [task for task in scanned if task not in scored]),
    ):
        if tasks:
            yield Need(stage, "lm_eval", f"{key}: {', '.join(tasks)}", f"take the tasks out of {key}")


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
        without = dict.fromkeys(need.without for need in needs)
        raise ConfigError(
            f"{'; '.join(named)}; not installed here",
            fix=f"{install_command(*dict.fromkeys(need.module for need in needs))}; or {', '.join(without)}",
        )
