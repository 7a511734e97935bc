"""The `merges` section: models made out of finished ones without training, each scored like a budget and never one.

In: YAML. Out: frozen sections. `train/runs/merges.py` says which models an entry makes, `model/exports/merge.py` makes them.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cpt_ray.config.sections.models.init import INIT
from cpt_ray.config.values import Count, Name, PathText, Section

MergeRule = Literal["interpolate", "average", "instruction_residual"]

Share = Annotated[float, Field(ge=0, le=1)]


class InterpolateConfig(Section):
    """Between the base and an export: base + weight x (export - base). Wortsman et al. 2022 (arXiv 2109.01903)."""

    weights: tuple[Share, ...] = Field(
        default=(0.25, 0.5, 0.75),
        min_length=1,
        description="weights of the export, one model each: 0 is the base, 1 the export",
    )

    @model_validator(mode="after")
    def _different(self) -> "InterpolateConfig":
        names = [f"{weight:g}" for weight in self.weights]
        if len(set(names)) < len(names):
            raise ValueError(f"interpolate.weights has a weight twice: {', '.join(names)}; each makes one model")
        return self


class AverageConfig(Section):
    """The mean of an export and of the last checkpoints of its cooldown."""

    last: int = Field(default=3, ge=2, le=100, description="number of models that are averaged, the export included")
    every: Count | None = Field(default=None, ge=1, description="tokens from one to the next; default: a tenth of the cooldown")


class ResidualConfig(Section):
    """Instruct minus base, added to an export. Huang et al. 2023 (arXiv 2310.04799), Jindal et al. 2024 (arXiv 2410.10739)."""

    instruct: PathText = Field(
        description="the instruct model of the same family: local folder of safetensors, hub name or path to a .gguf"
    )
    revision: str | None = Field(default=None, description="hub revision of `instruct`; pin it to a commit")
    base: PathText | None = Field(
        default=None, description="the model that `instruct` was made from; default: the base of the run's model"
    )
    base_revision: str | None = Field(default=None, description="hub revision of `base`")
    scale: float = Field(default=1.0, gt=0, description="factor of the difference")

    @model_validator(mode="after")
    def _trained(self) -> "ResidualConfig":
        for key in ("instruct", "base"):
            if getattr(self, key) == INIT:
                raise ValueError(f"instruction_residual.{key} is {INIT}, random weights; name a trained model of the family")
        return self


class MergeConfig(Section):
    """Models made without training, each of one budget's export, by `interpolate`, `average` or `instruction_residual`.

    They are scored like budgets and compared with the base, but are no budgets: curves, fits and the verdict leave them out.
    """

    name: Name = Field(description="name, part of the names of its models")
    of: tuple[str, ...] = Field(
        default=(),
        description="budgets it is made of, as patterns of MODEL-ARM-BUDGET such as `*-legal-*`; default: the largest budget "
        "of each domain arm; every seed of a budget is merged",
    )
    interpolate: InterpolateConfig | None = Field(default=None)
    average: AverageConfig | None = Field(default=None)
    instruction_residual: ResidualConfig | None = Field(default=None)

    @model_validator(mode="after")
    def _one_rule(self) -> "MergeConfig":
        rules: tuple[MergeRule, ...] = ("interpolate", "average", "instruction_residual")
        given = [rule for rule in rules if getattr(self, rule) is not None]
        if len(given) != 1:
            seen = " and ".join(given) or "none of them"
            raise ValueError(f"merges.{self.name} needs one of {', '.join(rules)}, saw {seen}; give each an entry of its own")
        return self

    @property
    def rule(self) -> MergeRule:
        """Which of the three it is."""
        if self.interpolate is not None:
            return "interpolate"
        return "average" if self.average is not None else "instruction_residual"
