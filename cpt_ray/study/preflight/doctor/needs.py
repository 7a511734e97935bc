"""What a study needs of this machine, each thing on its own: packages, device, root, DeepSpeed file, bases, sources, tasks.

In: a study file. Out: findings. What is read over a network is read from its cache where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import is_installed, resolve_package
from cpt_ray.edges.source_files import list_source_files, open_source
from cpt_ray.edges.source_files.hub import resolve_dataset
from cpt_ray.edges.store import address
from cpt_ray.edges.store.addresses import is_remote, private_mirrors
from cpt_ray.errors import ConfigError, CptRayError, DataError
from cpt_ray.model.bases.kinds import looks_like_path
from cpt_ray.records import Finding
from cpt_ray.study.graph import STAGES
from cpt_ray.study.preflight.bases import prove_bases, prove_companions
from cpt_ray.study.preflight.doctor.machine import check_folder
from cpt_ray.study.preflight.doctor.software import check_device
from cpt_ray.study.preflight.packages import needed_packages, require_packages
from cpt_ray.study.preflight.tasks import require_tasks
from cpt_ray.study.stages.train import deepspeed_path
from cpt_ray.study.store import require_writable, resolve_root

_EVERY_STAGE = tuple(stage.name for stage in STAGES)


def check_study(config: StudyConfig, path: Path) -> Iterator[Finding]:
    """All that a study needs; see the module.

    Args:
        config: The study.
        path: The file it was read from.
    """
    yield _try("packages of the study", lambda: _packages(config))
    if config.runtime.kind == "local":
        yield check_device(config.runtime)._replace(what="device of the study")
    yield _root(config)
    yield _try("train.deepspeed", lambda: _deepspeed(config, path))
    yield _try("bases", lambda: _bases(config))
    for source in config.read_sources:
        yield _try(f"source {source.name}", lambda source=source: _source(source))  # type: ignore[misc]
    if config.evaluate.harness_names and is_installed("lm_eval"):
        yield _try("lm-eval tasks", lambda: _tasks(config))


def _try(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look())
    except CptRayError as error:
        return Finding(what, error.problem, "fail", error.fix)


def _packages(config: StudyConfig) -> str:
    require_packages(config, _EVERY_STAGE)
    names = sorted({need.module for need in needed_packages(config)})
    return f"installed: {', '.join(names)}" if names else "none beyond those that training needs"


def _root(config: StudyConfig) -> Finding:
    root = config.study.root
    if not is_remote(root):
        return check_folder("study.root", Path(root))
    return _try("study.root", lambda: _bucket(root))


def _bucket(root: str) -> str:
    with private_mirrors():
        place = resolve_root(root)
        require_writable(place)
        return f"{address(place)}: can be written"


def _deepspeed(config: StudyConfig, path: Path) -> str:
    file = deepspeed_path(config.train.deepspeed, path)
    return f"{file.name}, ZeRO stage {load_deepspeed(file).zero_stage}"


def _bases(config: StudyConfig) -> str:
    config = config.model_copy(update={"models": tuple(_as_offline(model) for model in config.models)})
    return "; ".join(f"{facts.model}: {facts.summary}" for facts in (*prove_bases(config), *prove_companions(config)))


def _as_offline(model: ModelConfig) -> ModelConfig:
    """The model; where the hub may not be asked, with the folder of the cache that its base will be read from.

    Raises:
        ConfigError: If the cache has none.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if model.is_new or looks_like_path(model.base) or Path(resolve_package(model.base)).expanduser().exists():
        return model
    if not constants.HF_HUB_OFFLINE:
        return model
    try:
        found = try_to_load_from_cache(model.base, "config.json", revision=model.revision)
    except ValueError:  # no name that the hub can have
        found = None
    if not isinstance(found, str):
        revision = f" --revision {model.revision}" if model.revision else ""
        raise ConfigError(
            f"models.{model.name}.base: {model.base}: offline mode is on (HF_HUB_OFFLINE), and it is not in the cache "
            f"{constants.HF_HUB_CACHE}",
            fix=f"with a network: hf download {model.base}{revision}, then copy the cache here (HF_HOME), or give a folder",
        )
    return model.model_copy(update={"base": str(Path(found).parent)})


def _source(source: SourceConfig) -> str:
    if source.dataset is not None:
        found = resolve_dataset(source.dataset)
        return f"{len(found.files)} files" + (f" ({found.note})" if found.note else "")
    files = [file for pattern in source.path for file in list_source_files(pattern)]
    with open_source(files[0].path) as stream:
        if not stream.read(1):
            raise DataError(f"{files[0].path} is empty", fix=f"take it out of source {source.name}, or fill it")
    return f"{len(files)} files, the first is readable"


def _tasks(config: StudyConfig) -> str:
    require_tasks(config, _EVERY_STAGE)
    return f"built: {', '.join(config.evaluate.harness_names)}"
