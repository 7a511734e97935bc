"""The root of a study file, and the rules that hold across its sections.

A study is models x arms x budgets x seeds, once for each cell of its axes; `configs/README.md` lists every key.
"""

import itertools

from pydantic import Field, model_validator

from cpt_ray.config.budgets import check_train
from cpt_ray.config.domains import check_domains, check_names, check_new_models, derivation_order
from cpt_ray.config.sections.axes import AxisConfig
from cpt_ray.config.sections.classifiers import ClassifierConfig
from cpt_ray.config.sections.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.config.sections.models.merges import MergeConfig
from cpt_ray.config.sections.prepare import ArmConfig, PrepareConfig, SourceConfig
from cpt_ray.config.sections.runtime import RuntimeConfig, TrackingConfig
from cpt_ray.config.sections.train import ModelConfig, TrainConfig
from cpt_ray.config.sections.trained import check_trained
from cpt_ray.config.values import Count, Name, RootText, Section


class StudySection(Section):
    """The study itself."""

    name: Name = Field(description="name of the study, used in folder names, the report and MLflow")
    root: RootText = Field(
        description="where all artifacts are: a folder that every node sees, or a prefix in a bucket, `s3://bucket/study` (or "
        "`gs://`), which needs no shared disk"
    )
    max_cells: Count = Field(default=100, ge=1, description="most cells that the axes of a grid may make")
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="seeds of the sample order, one set of runs each")


class StudyConfig(Section):
    """A whole study file."""

    study: StudySection
    models: tuple[ModelConfig, ...] = Field(min_length=1)
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    classifiers: tuple[ClassifierConfig, ...] = ()
    prepare: PrepareConfig = PrepareConfig()
    arms: dict[Name, ArmConfig] = Field(min_length=1)
    axes: dict[Name, AxisConfig] = Field(default_factory=dict)
    train: TrainConfig
    merges: tuple[MergeConfig, ...] = ()
    evaluate: EvaluateConfig = EvaluateConfig()
    compare: CompareConfig = CompareConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "StudyConfig":
        names = [source.name for source in self.sources]
        _unique("sources", names)
        _unique("models", [model.name for model in self.models])
        _unique("evaluate.exams", [exam.name for exam in self.evaluate.exams])
        for arm_name, arm in self.arms.items():
            _check_arm(f"arms.{arm_name}", arm, names)
            _check_cooldown_mix(f"arms.{arm_name}", arm, self.train)
        _unique("arms", list(self.arms))
        _unique("merges", [merge.name for merge in self.merges])
        _unique("classifiers", [classifier.name for classifier in self.classifiers])
        check_domains(self.sources, self.classifiers, self.arms)
        check_names([model.name for model in self.models], [one.name for one in self.classifiers], self.sources)
        check_new_models(self.models, self.sources)
        _check_run_names([model.name for model in self.models], list(self.arms))
        check_train(self.train, self.models)
        check_trained(self.train)
        workers, rows = self.runtime.group, self.train.global_batch_size
        if workers.max > rows:
            raise ValueError(
                f"runtime.workers is {workers}, but train.global_batch_size is {rows} rows, and every worker needs at least "
                f"one; set runtime.workers to at most {rows}, or train.global_batch_size to at least {workers.max}"
            )
        limit, timeout = self.train.compile_limit, self.runtime.collective_timeout
        compiles = self.runtime.gpus_per_worker > 0 if self.train.compile == "auto" else self.train.compile
        if compiles and workers.max > 1 and limit >= timeout:
            raise ValueError(
                f"train.compile_limit is {limit} s, but workers wait for each other for at most runtime.collective_timeout, "
                f"{timeout} s; set train.compile_limit to at most {timeout - 1}"
            )
        return self

    @property
    def read_sources(self) -> tuple[SourceConfig, ...]:
        """The sources with text of their own, in the order of the file."""
        return tuple(source for source in self.sources if source.parent is None)

    @property
    def derived_sources(self) -> tuple[SourceConfig, ...]:
        """The sources that take documents of others, each after those that it is made from."""
        return tuple(derivation_order(self.sources))


def _check_arm(place: str, arm: ArmConfig, sources: list[str]) -> None:
    known = f"known sources: {', '.join(sources)}"
    for key, mix in arm.mixes().items():
        for source in mix:
            if source not in sources:
                raise ValueError(f"{place}.{key} names source {source!r}; {known}")
        total = sum(mix.values())
        if abs(total - 1) > 1e-6 or min(mix.values()) < 0:
            raise ValueError(f"{place}.{key} sums to {total:g}; weights must be at least 0 and sum to 1")
    borders = [segment.from_tokens for segment in arm.segments]
    if borders != sorted(set(borders)):
        raise ValueError(f"{place}.segments must ascend without repeats, saw from {borders}")
    for source in arm.max_epochs_of:
        if source not in sources:
            raise ValueError(f"{place}.max_epochs_of names source {source!r}; {known}")


def _check_cooldown_mix(place: str, arm: ArmConfig, train: TrainConfig) -> None:
    if arm.cooldown_mix is None:
        return
    if train.schedule.shape == "cosine":
        raise ValueError(
            f"{place}.cooldown_mix is set, but train.schedule.shape is cosine, which decays from the end of warm-up and has "
            f"no separate cooldown; put the mixture under {place}.segments, or set train.schedule.shape to constant_cooldown"
        )
    if train.budget_mode == "chain" and len(train.budgets or train.budgets_flops or ()) > 1:
        raise ValueError(
            f"{place}.cooldown_mix is set, but train.budget_mode is chain, where every stage has a cooldown; put the mixtures "
            f"under {place}.segments, or set train.budget_mode to branch or independent"
        )


def _unique(section: str, names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        before = seen.get(name.casefold())
        if before == name:
            raise ValueError(f"{section} has two entries named {name!r}")
        if before is not None:
            raise ValueError(
                f"{section} has {before!r} and {name!r}, which are the same file on systems that ignore case; rename one"
            )
        seen[name.casefold()] = name


def _check_run_names(models: list[str], arms: list[str]) -> None:
    """Runs are named `MODEL-ARM-...`: of model `a` with arm `b-c` and model `a-b` with arm `c`, one would replace the other."""
    seen: dict[str, tuple[str, str]] = {}
    for pair in itertools.product(models, arms):
        name = "-".join(pair).casefold()
        if name in seen:
            (model, arm), (other_model, other_arm) = seen[name], pair
            raise ValueError(
                f"the runs of model {model!r} with arm {arm!r} and of model {other_model!r} with arm {other_arm!r} would have "
                "the same name; rename one of the arms"
            )
        seen[name] = pair
