"""What a study will cost in tokens, steps, FLOPs and epochs, before anything is spent.

Runs first, and again once shards exist, when estimates become counts. In: the study's config, its run
specs, the shapes of its models and, once prepared, loss-bearing tokens and rows per source. Out: a `StudyPlan`.
Guarantee: pure arithmetic; the tokens of the plan are those of `train.runs`, so plan and run cannot disagree about them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cpt_ray.config.study import StudyConfig
from cpt_ray.errors import ConfigError
from cpt_ray.model.parameters import flops_per_token
from cpt_ray.plan.needs import (
    ArmMixtures,
    Supply,
    largest_budget,
    mean_tokens_per_row,
    num_rows,
    source_needs,
    tokens_per_row,
)
from cpt_ray.records import ModelShape, PlannedBudget, PlannedMix, PlannedRun, RunSpec, StudyPlan
from cpt_ray.train.order.batch_split import BatchSplit
from cpt_ray.train.runs.merges import plan_merges
from cpt_ray.train.runs.schedule import learning_rate
from cpt_ray.train.runs.specs import tokens_paid


class _Costs(NamedTuple):
    """What turns a run's tokens into FLOPs and steps."""

    shapes: Mapping[str, ModelShape]
    mean_keys: float
    per_row: Mapping[str, float]
    batch_rows: int


def tokens_for_flops(budgets_flops: Sequence[float], shape: ModelShape, *, sequence_length: int) -> tuple[int, ...]:
    """The loss-bearing tokens that each FLOPs budget covers, rounded down.

    Convention: forward and backward FLOPs per token, attention over `sequence_length / 2` keys as in a causal row of one
    document (`model.parameters.flops_per_token`); recomputed activations and padding are not counted. Isolated documents in a
    packed row attend to fewer keys, so measured FLOPs are at most these. The result depends only on the model and the row.

    Args:
        budgets_flops: Budgets, ascending.
        shape: The model.
        sequence_length: `prepare.pack.sequence_length`.
    """
    per_token = flops_per_token(shape, sequence_length / 2)
    return tuple(int(flops / per_token) for flops in budgets_flops)


def plan_study(
    config: StudyConfig,
    shapes: Mapping[str, ModelShape],
    specs: Sequence[RunSpec],
    available: Mapping[str, int] | None = None,
    *,
    rows: Mapping[str, int] | None = None,
    mean_keys: float | None = None,
    measured_keys: Mapping[str, float] | None = None,
) -> StudyPlan:
    """Work out the plan of a study.

    Args:
        config: The study.
        shapes: Model name to shape.
        specs: The result of `train.runs.plan_runs`.
        available: Source name to the loss-bearing tokens of one pass; None until prepared.
        rows: Source name to packed rows; with `available` it gives the measured tokens per row of each source, which convert a
            mix (whose weights count rows) into tokens. Without it all sources are assumed to be equally full.
        mean_keys: Mean attended keys per query; default: half a row, which is exact without isolation and an upper bound
            with it.
        measured_keys: Source name to the mean keys per slot of its packed rows, for the FLOPs that training will count.

    Raises:
        ConfigError: If a spec names a model that has no shape.
    """
    sequence_length, batch_rows = config.prepare.pack.sequence_length, config.train.global_batch_size
    per_row = tokens_per_row(
        [source.name for source in config.sources if source.is_packed], sequence_length, available=available, rows=rows
    )
    supply, keys = Supply(per_row, available), mean_keys if mean_keys is not None else sequence_length / 2
    cooldown_share = config.train.schedule.cooldown_share
    mixtures = {name: ArmMixtures(name, arm, cooldown_share) for name, arm in config.arms.items()}
    costs, micro = _Costs(shapes, keys, per_row, batch_rows), config.train.micro_batch_size
    runs = tuple(_planned_run(spec, mixtures[spec.arm], costs) for spec in specs)
    largest = dict(arm_budgets := _arm_budgets(specs))  # budgets ascend, so the last one stays
    fill = {name: mean_tokens_per_row(mixtures[name].stretches(0, budget, budget), per_row) for name, budget in largest.items()}
    return StudyPlan(
        study=config.study.name,
        budgets_key="train.budgets" if config.train.budgets is not None else "train.budgets_flops",
        budgets=_budgets(specs, shapes, sequence_length / 2),
        needs=tuple(need for arm, budget in arm_budgets for need in source_needs(mixtures[arm], budget, supply)),
        mixes=tuple(mix for arm, budget in arm_budgets for mix in _mixes(mixtures[arm], budget)),
        largest_budget={arm: largest_budget(mixtures[arm], supply) for arm in largest} if available else {},
        runs=runs,
        fill_share={name: mean / sequence_length for name, mean in fill.items()},
        fill_measured=available is not None and rows is not None,
        mean_keys=keys,
        tokens_per_step={name: batch_rows * mean for name, mean in fill.items()},
        idle=BatchSplit(batch_rows, config.runtime.group.max, 1 if micro == "auto" else micro).describe_idle(),
        flops=sum(run.flops for run in runs),
        measured_keys=dict(measured_keys or {}),
        measured_flops=None
        if measured_keys is None
        else sum(_measured_flops(spec, mixtures[spec.arm], costs, measured_keys, sequence_length) for spec in specs),
        tokens_seen=max((spec.stop_tokens for spec in specs), default=0),
        tokens_paid=tokens_paid(list(specs)),
        merges=tuple(one.merge for one in plan_merges(config, specs)),
        tokens_independent=sum(spec.budget_tokens or 0 for spec in specs),
    )


def _mixes(mixtures: ArmMixtures, budget: int) -> list[PlannedMix]:
    return [
        PlannedMix(arm=mixtures.name, budget_tokens=budget, from_tokens=stretch.start, weights=stretch.weights)
        for stretch in mixtures.stretches(0, budget, budget)
    ]


def _budgets(specs: Sequence[RunSpec], shapes: Mapping[str, ModelShape], mean_keys: float) -> tuple[PlannedBudget, ...]:
    found = dict.fromkeys((spec.model, spec.budget_tokens) for spec in specs if spec.budget_tokens is not None)
    return tuple(
        PlannedBudget(model=model, flops_per_token=per_token, budget_tokens=tokens, flops=tokens * per_token)
        for model, tokens in found
        for per_token in [flops_per_token(_shape_of(model, shapes), mean_keys)]
    )


def _shape_of(model: str, shapes: Mapping[str, ModelShape]) -> ModelShape:
    if model not in shapes:
        raise ConfigError(
            f"no shape is known for model {model!r}; known: {', '.join(sorted(shapes)) or 'none'}",
            fix=f"check models.{model}.base: its configuration could not be read",
        )
    return shapes[model]


def _arm_budgets(specs: Sequence[RunSpec]) -> list[tuple[str, int]]:
    """Every arm with each of its budgets, arms in order, budgets ascending."""
    budgets: dict[str, set[int]] = {}
    for spec in specs:
        budgets.setdefault(spec.arm, set()).update({spec.budget_tokens} if spec.budget_tokens is not None else ())
    return [(arm, budget) for arm, of_arm in budgets.items() for budget in sorted(of_arm)]


def _measured_flops(
    spec: RunSpec, mixtures: ArmMixtures, costs: _Costs, keys: Mapping[str, float], sequence_length: int
) -> float:
    """FLOPs of a run as training counts them: every slot of every row, attending to the keys measured for its source."""
    shape = _shape_of(spec.model, costs.shapes)
    stretches = mixtures.stretches(spec.start_tokens, spec.stop_tokens, spec.budget_tokens)
    return sum(
        rows * sequence_length * flops_per_token(shape, keys[source])
        for stretch in stretches
        for source, rows in stretch.rows(costs.per_row).items()
    )


def _planned_run(spec: RunSpec, mixtures: ArmMixtures, costs: _Costs) -> PlannedRun:
    tokens = tokens_paid([spec])
    rows = num_rows(mixtures.stretches(spec.start_tokens, spec.stop_tokens, spec.budget_tokens), costs.per_row)
    return PlannedRun(
        run=spec.name,
        kind=spec.kind,
        model=spec.model,
        arm=spec.arm,
        seed=spec.seed,
        start_tokens=spec.start_tokens,
        stop_tokens=spec.stop_tokens,
        budget_tokens=spec.budget_tokens,
        cooldown_start_tokens=spec.schedule.decay_start_tokens,
        tokens_paid=tokens,
        steps=math.ceil(rows / costs.batch_rows),
        flops=tokens * flops_per_token(_shape_of(spec.model, costs.shapes), costs.mean_keys),
        start_rate=learning_rate(spec.start_tokens, spec.schedule),
        peak_rate=spec.schedule.peak_rate,
        end_rate=learning_rate(spec.stop_tokens, spec.schedule),
        trajectory_tokens=spec.trajectory_tokens,
        average_tokens=spec.average_tokens,
    )
