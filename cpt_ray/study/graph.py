"""What depends on what: the place of every artifact of a study, derived from its config before anything runs.

    models -> shards -> train -> evaluate        sources -> documents -> held_out -> shards, evaluate
    exams -> scan -> shards (decontamination); exams -> evaluate; shards, exams that came later -> late_scan

Each place names only the settings that shape its result, so that a change redoes exactly what depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cpt_ray.config.budgets import check_tokens
from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.sections.evaluate import ExamConfig
from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.errors import ConfigError
from cpt_ray.plan.budget import tokens_for_flops
from cpt_ray.records import RunSpec
from cpt_ray.study.inputs import base_fingerprint, listing, source_fingerprint
from cpt_ray.study.shapes import model_shapes
from cpt_ray.study.store import Place, place
from cpt_ray.train.runs.specs import plan_runs, trajectory_specs

BASE = "base"

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
    "checkpoint_every",
    "keep_checkpoints",
    "deepspeed",
    "guards",
    "watch",
}
"""Keys of `train` that a run's spec already holds, or that change memory and speed but not what is computed."""


@dataclass(frozen=True)
class StudyGraph:
    """All places of a study. `runs` and `evaluations` are keyed by run name; a base's run is `MODEL-base`.

    `points` are the trajectory points: they lie in their parents' places and have evaluations of their own.
    """

    models: dict[str, Place]
    exams: Place | None
    scan: Place | None
    """Items that training text is scanned for; None where nothing is."""
    documents: Place
    held_out: Place
    shards: dict[str, Place]
    late_items: Place | None
    """Items of exams that are scored and were not scanned for: they are looked for in what is packed."""
    late_scans: dict[str, Place]
    specs: dict[str, RunSpec]
    points: dict[str, RunSpec]
    runs: dict[str, Place]
    evaluations: dict[str, Place]

    def all(self) -> list[Place]:
        """Every place, inputs before what depends on them."""
        exams = [self.exams] if self.exams else []
        exams += [spot for spot in (self.scan, self.late_items) if spot]
        return [
            *self.models.values(),
            *exams,
            self.documents,
            self.held_out,
            *self.shards.values(),
            *self.late_scans.values(),
            *self.runs.values(),
            *self.evaluations.values(),
        ]


def base_run(model: str) -> str:
    """Name of the untrained base as a run."""
    return f"{model}-{BASE}"


def deepspeed_path(config: StudyConfig, config_path: Path) -> Path:
    """Where `train.deepspeed` points: relative to the working directory, else to the study file."""
    path = Path(config.train.deepspeed)
    beside = config_path.parent / path
    return (path if path.exists() or not beside.exists() else beside).resolve()


def build_graph(config: StudyConfig, config_path: Path) -> StudyGraph:
    """Derive all places.

    Raises:
        CptRayError: If a source, a model file or the DeepSpeed JSON is missing or refused.
    """
    root = Path(config.study.root).resolve()
    name = config.study.name
    prepare = config.prepare.model_dump(mode="json", exclude={"decontaminate": {"tasks"}})  # they are in the scan's place
    models = {model.name: _model_place(root, model) for model in config.models}
    exams = _exams_place(root, config)
    documents = place(
        root,
        "documents",
        name,
        inputs={s.name: source_fingerprint(s) for s in config.sources},
        settings={
            "sources": [s.model_dump(mode="json", exclude={"license", "path", "dataset"}) for s in config.sources],
            **{key: prepare[key] for key in ("unit_bytes", "seed", "clean", "near_duplicates")},
        },
    )
    held_out = place(
        root,
        "held_out",
        name,
        inputs={"documents": documents.fingerprint},
        settings={key: prepare[key] for key in ("seed", "held_out")},
    )
    scan = _scan_place(root, config.study.name, config, *scanned_tasks(config))
    late_items = _scan_place(root, f"{config.study.name}-late", config, *late_tasks(config))
    text = {"documents": documents.fingerprint, "held_out": held_out.fingerprint}
    if scan:
        text["exams"] = scan.fingerprint
    shards = {
        model.name: place(
            root,
            "shards",
            model.name,
            inputs={"model": models[model.name].fingerprint, **text},
            settings={
                "separator": model.separator,
                "bos": model.bos,
                **{key: prepare[key] for key in ("seed", "decontaminate", "token_rules", "pack")},
            },
        )
        for model in config.models
    }
    late_scans = _late_scan_places(root, late_items, shards, {"decontaminate": prepare["decontaminate"]})
    specs = {spec.name: spec for spec in plan_runs(config, _flops_budgets(config, models))}
    points = {point.name: point for point in trajectory_specs(list(specs.values()))}
    runs = _run_places(root, config, config_path, models, shards, specs)
    evaluations = _evaluation_places(root, config, models, exams, held_out, {**specs, **points}, runs)
    return StudyGraph(
        models, exams, scan, documents, held_out, shards, late_items, late_scans, specs, points, runs, evaluations
    )


def _flops_budgets(config: StudyConfig, models: dict[str, Place]) -> dict[str, tuple[int, ...]] | None:
    """The tokens that `train.budgets_flops` pays for, per model; None where budgets are tokens."""
    flops = config.train.budgets_flops
    if flops is None:
        return None
    length = config.prepare.pack.sequence_length
    budgets = {
        name: tokens_for_flops(flops, shape, sequence_length=length) for name, shape in model_shapes(config, models).items()
    }
    for name, tokens in budgets.items():
        try:
            check_tokens(config.train, tokens, name)
        except ValueError as error:
            raise ConfigError(str(error), fix="change one of the keys that the message names, or train.budgets_flops") from None
    return budgets


def scanned_tasks(config: StudyConfig) -> tuple[tuple[ExamConfig, ...], tuple[str, ...]]:
    """The exams and the lm-eval tasks whose items training text is scanned for."""
    if not config.prepare.decontaminate.enabled:
        return (), ()
    names = config.prepare.decontaminate.tasks
    if names is None:
        return config.evaluate.exams, config.evaluate.harness_tasks
    exams = tuple(exam for exam in config.evaluate.exams if exam.name in names)
    return exams, tuple(name for name in names if name not in {exam.name for exam in exams})


def _exams_place(root: Path, config: StudyConfig) -> Place | None:
    if not config.evaluate.exams:
        return None
    listed = {exam.name: listing(exam.path) for exam in config.evaluate.exams}
    settings = [exam.model_dump(mode="json", exclude={"label", "path"}) for exam in config.evaluate.exams]
    return place(root, "exams", config.study.name, inputs=listed, settings={"exams": settings})


def late_tasks(config: StudyConfig) -> tuple[tuple[ExamConfig, ...], tuple[str, ...]]:
    """The exams and the lm-eval tasks that are scored, but that training text is not scanned for before it is packed."""
    if not config.prepare.decontaminate.enabled:
        return (), ()
    exams, tasks = scanned_tasks(config)
    return (
        tuple(exam for exam in config.evaluate.exams if exam not in exams),
        tuple(name for name in config.evaluate.harness_tasks if name not in tasks),
    )


def _scan_place(
    root: Path, name: str, config: StudyConfig, listed: tuple[ExamConfig, ...], tasks: tuple[str, ...]
) -> Place | None:
    """A place of its own even where the exams' place holds the same items: an exam that comes later moves that, not this."""
    if not tasks and not listed:
        return None
    own = {"harness_path": listing(f"{config.evaluate.harness_path}/*")} if tasks and config.evaluate.harness_path else {}
    return place(
        root,
        "scan",
        name,
        inputs={**{exam.name: listing(exam.path) for exam in listed}, **own},
        settings={
            "exams": [exam.model_dump(mode="json", exclude={"label", "path"}) for exam in listed],
            "tasks": list(tasks),
        },
    )


def _late_scan_places(
    root: Path, items: Place | None, shards: dict[str, Place], settings: dict[str, object]
) -> dict[str, Place]:
    if items is None:
        return {}
    return {
        name: place(
            root, "late_scan", name, inputs={"shards": packed.fingerprint, "exams": items.fingerprint}, settings=settings
        )
        for name, packed in shards.items()
    }


def _run_places(
    root: Path,
    config: StudyConfig,
    config_path: Path,
    models: dict[str, Place],
    shards: dict[str, Place],
    specs: dict[str, RunSpec],
) -> dict[str, Place]:
    settings = config.train.model_dump(mode="json", exclude=_NOT_IN_RESULT)
    settings["deepspeed"] = load_deepspeed(deepspeed_path(config, config_path))
    runs: dict[str, Place] = {}
    for spec in specs.values():
        parent = {"parent": runs[spec.parent].fingerprint} if spec.parent else {}
        runs[spec.name] = place(
            root,
            "train",
            spec.name,
            inputs={"model": models[spec.model].fingerprint, "shards": shards[spec.model].fingerprint, **parent},
            settings={
                **settings,
                **_mixture_settings(config.arms[spec.arm], spec),
                "spec": spec.model_dump(mode="json", exclude={"name", "model", "arm", "parent", "budget_flops"}),
            },
        )
    return runs


def _mixture_settings(arm: ArmConfig, spec: RunSpec) -> dict[str, object]:
    """What of an arm decides a run's rows; a trunk never cools down, so the cooldown's mixture is none of its business."""
    settings = arm.model_dump(mode="json", include={"mix", "segments", "cooldown_mix"})
    if spec.schedule.decay_start_tokens is None:
        del settings["cooldown_mix"]
    return settings


def _evaluation_places(
    root: Path,
    config: StudyConfig,
    models: dict[str, Place],
    exams: Place | None,
    held_out: Place,
    specs: dict[str, RunSpec],
    runs: dict[str, Place],
) -> dict[str, Place]:
    settings = {
        **config.evaluate.model_dump(mode="json", exclude={"exams": {"__all__": {"path"}}, "harness_path": True}),
        **config.compare.model_dump(mode="json", exclude={"forgetting_tolerance"}),
    }
    shared = {"held_out": held_out.fingerprint, **({"exams": exams.fingerprint} if exams else {})}
    if config.evaluate.harness_path:
        shared["harness_path"] = listing(f"{config.evaluate.harness_path}/*")
    subjects = {base_run(model): models[model] for model in models}
    subjects |= {name: runs[name] for name, spec in specs.items() if spec.budget_tokens is not None}
    marks = {name: {"trajectory_tokens": spec.stop_tokens} for name, spec in specs.items() if spec.kind == "trajectory"}
    subjects |= {name: runs[str(specs[name].parent)] for name in marks}
    prefixes = {model.name: {"separator": model.separator, "bos": model.bos} for model in config.models}
    model_of = {base_run(model): model for model in models} | {name: spec.model for name, spec in specs.items()}
    return {
        name: place(
            root,
            "evaluate",
            name,
            inputs={"subject": subject.fingerprint, **shared},
            settings={**settings, **prefixes[model_of[name]], **marks.get(name, {})},
        )
        for name, subject in subjects.items()
    }


def _model_place(root: Path, model: ModelConfig) -> Place:
    return place(
        root,
        "models",
        model.name,
        inputs={"base": base_fingerprint(model)},
        settings={"tokenizer": model.tokenizer, "revision": model.revision, "new_tokens": model.new_tokens},
    )
