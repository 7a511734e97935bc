"""The root of a study file, and the rules that hold across its sections.

A study is base models x arms x budgets x seeds; `configs/README.md` lists every key.
"""

from pydantic import Field, model_validator

from cpt_ray.config.budgets import check_train
from cpt_ray.config.evaluate import CompareConfig, EvaluateConfig
from cpt_ray.config.prepare import ArmConfig, PrepareConfig, SourceConfig
from cpt_ray.config.runtime import RuntimeConfig, TrackingConfig
from cpt_ray.config.train import ModelConfig, TrainConfig
from cpt_ray.config.values import Section


class StudySection(Section):
    """The study itself."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="name, used in folders and in MLflow")
    root: str = Field(description="folder of all artifacts; local, or a filesystem that every node shares")
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="seeds of the sample order, one run each")


class StudyConfig(Section):
    """A whole study file."""

    study: StudySection
    models: tuple[ModelConfig, ...] = Field(min_length=1)
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    prepare: PrepareConfig = PrepareConfig()
    arms: dict[str, ArmConfig] = Field(min_length=1)
    train: TrainConfig
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
            for source in arm.mix:
                if source not in names:
                    raise ValueError(f"arms.{arm_name}.mix names source {source!r}; the sources are {', '.join(names)}")
            total = sum(arm.mix.values())
            if abs(total - 1) > 1e-6 or min(arm.mix.values()) < 0:
                raise ValueError(f"arms.{arm_name}.mix adds up to {total:g}; weights are at least 0 and add up to 1")
        check_train(self.train, self.models)
        workers, rows = self.runtime.workers, self.train.global_batch_size
        if workers.max > rows:
            raise ValueError(
                f"runtime.workers is {workers}, but train.global_batch_size is {rows} rows, and a worker needs one; "
                f"set runtime.workers to at most {rows}, or train.global_batch_size to at least {workers.max}"
            )
        if self.runtime.kind == "local" and (workers.min, workers.max) != (1, 1):
            raise ValueError(f"runtime.kind local is one process, but runtime.workers is {workers}; set it to 1")
        return self


def _unique(section: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{section} has two entries named {name!r}")
