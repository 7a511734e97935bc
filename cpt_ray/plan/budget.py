"""What a study will cost in tokens, steps, FLOPs and passes over its text, before anything is spent.

Place in the flow: first of all, and again once shards exist, when estimates become counts. In: the study's config, its run
specs, the shapes of its models and, once prepared, loss-bearing tokens and rows per source. Out: a `StudyPlan`.
Guarantee: pure arithmetic; the tokens of the plan are those of `train.runs`, so plan and run cannot disagree about them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from cpt_ray.config.prepare import ArmConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.config.values import format_count
from cpt_ray.errors import ConfigError
from cpt_ray.model.parameters import ModelShape, flops_per_token
from cpt_ray.records import Record, RunKind, RunSpec
from cpt_ray.train.runs import tokens_paid
from cpt_ray.train.schedule import learning_rate

ASSUMED_FILL_SHARE = 0.95
"""Share of row slots that bear loss, assumed until shards exist: best-fit packing leaves few slots empty, and the first
token of each segment has no label."""


class SourceNeed(Record):
    """What one budget of one arm takes from one source."""

    arm: str
    source: str
    weight: float
    budget_tokens: int
    needed_tokens: int
    available_tokens: int | None
    """Loss-bearing tokens of one pass; None until prepared."""
    epochs: float | None
    """Passes; None until prepared, and where nothing is left of the source."""
    max_epochs: float


class PlannedBudget(Record):
    """What one budget is to one model: tokens, and the training FLOPs of that many tokens from the base on."""

    model: str
    flops_per_token: float
    budget_tokens: int
    flops: float


class PlannedRun(Record):
    """One run: the tokens it adds, the steps that takes (an estimate), its arithmetic and its learning rate."""

    run: str
    kind: RunKind
    model: str
    arm: str
    seed: int
    start_tokens: int
    stop_tokens: int
    budget_tokens: int | None
    cooldown_start_tokens: int | None
    """None for a trunk, whose rate never falls."""
    tokens_paid: int
    """Tokens this run itself trains on: `stop_tokens - start_tokens`."""
    steps: int
    flops: float
    start_rate: float
    peak_rate: float
    end_rate: float
    trajectory_tokens: tuple[int, ...]


class StudyPlan(Record):
    """The whole study as arithmetic."""

    study: str
    budgets_key: str
    """`train.budgets` or `train.budgets_flops`: what to change."""
    budgets: tuple[PlannedBudget, ...]
    needs: tuple[SourceNeed, ...]
    runs: tuple[PlannedRun, ...]
    fill_share: dict[str, float]
    """Arm name to the share of row slots that bear loss."""
    fill_measured: bool
    """Whether the shares were counted in shards; otherwise they are assumed."""
    mean_keys: float
    """Mean attended keys per query in the FLOP count."""
    tokens_per_step: dict[str, float]
    flops: float
    tokens_seen: int
    """The most tokens any model of the study will have seen."""
    tokens_paid: int
    """Tokens all runs together train on; a shared trunk counts once."""
    tokens_independent: int
    """What the same budgets would cost as a run each."""

    @property
    def paid_ratio(self) -> float:
        """Tokens paid as a share of running each budget independently."""
        return self.tokens_paid / self.tokens_independent if self.tokens_independent else 1.0


def tokens_for_flops(budgets_flops: Sequence[float], shape: ModelShape, *, sequence_length: int) -> tuple[int, ...]:
    """The loss-bearing tokens that training FLOPs pay for, rounded down.

    Convention: forward and backward FLOPs per token, attention over `sequence_length / 2` keys as in a causal row of one
    document (`model.parameters.flops_per_token`); recomputed activations and padding are not counted. Packed documents that
    do not see each other attend fewer keys, so what is measured is at most this. It depends on nothing but model and row.

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
) -> StudyPlan:
    """Work out the plan of a study.

    Args:
        config: The study.
        shapes: Model name to shape.
        specs: What `train.runs.plan_runs` returned.
        available: Source name to the loss-bearing tokens of one pass; None until prepared.
        rows: Source name to packed rows; with `available` it gives each source's true tokens per row, so that a mix
            (whose weights count rows) is turned into tokens. Without it all sources are taken to be equally full.
        mean_keys: Mean attended keys per query; default: half a row, which is exact without isolation and an upper bound
            with it.

    Raises:
        ConfigError: If a spec names a model that has no shape.
    """
    per_row = _tokens_per_row(config, available, rows)
    keys = mean_keys if mean_keys is not None else config.prepare.pack.sequence_length / 2
    per_step = {name: config.train.global_batch_size * _mean_tokens_per_row(arm, per_row) for name, arm in config.arms.items()}
    runs = tuple(_planned_run(spec, shapes, per_step[spec.arm], keys) for spec in specs)
    return StudyPlan(
        study=config.study.name,
        budgets_key="train.budgets" if config.train.budgets is not None else "train.budgets_flops",
        budgets=_budgets(specs, shapes, config.prepare.pack.sequence_length / 2),
        needs=_needs(config, specs, available, per_row),
        runs=runs,
        fill_share={
            name: _mean_tokens_per_row(arm, per_row) / config.prepare.pack.sequence_length for name, arm in config.arms.items()
        },
        fill_measured=available is not None and rows is not None,
        mean_keys=keys,
        tokens_per_step=per_step,
        flops=sum(run.flops for run in runs),
        tokens_seen=max((spec.stop_tokens for spec in specs), default=0),
        tokens_paid=tokens_paid(list(specs)),
        tokens_independent=sum(spec.budget_tokens or 0 for spec in specs),
    )


def check_epochs(plan: StudyPlan) -> None:
    """Refuse a plan that passes over a source more often than its arm allows.

    Sources whose tokens are not known yet are not judged.

    Raises:
        ConfigError: Naming the first budget that needs too much, the tokens there are, and the largest budget that fits.
    """
    for need in plan.needs:
        have = need.available_tokens
        if have is None or need.needed_tokens <= need.max_epochs * have:
            continue
        key, budget = f"arms.{need.arm}.max_epochs", format_count(need.budget_tokens)
        wants = f"arms.{need.arm} at budget {budget} needs {format_count(need.needed_tokens)} tokens of source {need.source}"
        if need.epochs is None:
            raise ConfigError(
                f"{wants} (weight {need.weight:g}), but not one is left of it",
                fix=f"check what prepare dropped from {need.source}, or take it out of arms.{need.arm}.mix",
            )
        fits = _largest_budget(plan, need.arm)
        raise ConfigError(
            f"{wants} (weight {need.weight:g}), but there are {format_count(have)}: {need.epochs:.2f} epochs, "
            f"and {key} is {need.max_epochs:g}",
            fix=f"set {key} to at least {math.ceil(need.epochs * 100) / 100:g} to allow repeats, or lower {plan.budgets_key} "
            f"to at most {fits}{' tokens' if plan.budgets_key.endswith('flops') else ''}, the largest that fits this arm",
        )


def check_cooldowns(plan: StudyPlan) -> None:
    """Refuse a budget that is over before its learning rate has fallen, and trajectory marks within one step.

    Raises:
        ConfigError: Naming the run, the tokens and those of a step.
    """
    for run in plan.runs:
        step = plan.tokens_per_step[run.arm]
        cooldown = step if run.cooldown_start_tokens is None else run.stop_tokens - run.cooldown_start_tokens
        if cooldown < step:
            raise ConfigError(
                f"run {run.run} cools down over {format_count(cooldown)} tokens, less than one optimizer step of about "
                f"{format_count(round(step))}: its learning rate would not fall",
                fix=f"lower train.global_batch_size, or raise the smallest of {plan.budgets_key} or "
                "train.schedule.cooldown_share",
            )
        for mark, following in pairwise((0, *run.trajectory_tokens)):
            if following - mark < step:
                raise ConfigError(
                    f"run {run.run}: the trajectory marks {mark} and {following} are closer than one optimizer step of about "
                    f"{format_count(round(step))} tokens: they would be the same model",
                    fix="space train.trajectory_tokens wider, or lower train.trajectory_points or train.global_batch_size",
                )


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


def _largest_budget(plan: StudyPlan, arm: str) -> int:
    limits = [
        math.floor(need.available_tokens * need.max_epochs * need.budget_tokens / need.needed_tokens)
        for need in plan.needs
        if need.arm == arm and need.available_tokens is not None and need.needed_tokens
    ]
    return min(limits, default=0)


def _tokens_per_row(
    config: StudyConfig, available: Mapping[str, int] | None, rows: Mapping[str, int] | None
) -> dict[str, float]:
    assumed = ASSUMED_FILL_SHARE * config.prepare.pack.sequence_length
    result = {source.name: assumed for source in config.sources}
    if available is not None and rows is not None:
        result.update({name: available.get(name, 0) / count for name, count in rows.items() if count})
    return result


def _mean_tokens_per_row(arm: ArmConfig, per_row: Mapping[str, float]) -> float:
    return sum(weight * per_row[source] for source, weight in arm.mix.items())


def _needs(
    config: StudyConfig, specs: Sequence[RunSpec], available: Mapping[str, int] | None, per_row: Mapping[str, float]
) -> tuple[SourceNeed, ...]:
    needs: list[SourceNeed] = []
    for arm_name, arm in config.arms.items():
        mean = _mean_tokens_per_row(arm, per_row)
        budgets = sorted({spec.budget_tokens for spec in specs if spec.arm == arm_name and spec.budget_tokens is not None})
        for budget in budgets:
            for source, weight in arm.mix.items():
                needed = round(budget * weight * per_row[source] / mean) if mean else 0
                have = available.get(source, 0) if available is not None else None
                needs.append(
                    SourceNeed(
                        arm=arm_name,
                        source=source,
                        weight=weight,
                        budget_tokens=budget,
                        needed_tokens=needed,
                        available_tokens=have,
                        epochs=needed / have if have else None,
                        max_epochs=arm.max_epochs,
                    )
                )
    return tuple(needs)


def _planned_run(spec: RunSpec, shapes: Mapping[str, ModelShape], per_step: float, mean_keys: float) -> PlannedRun:
    tokens = tokens_paid([spec])
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
        steps=math.ceil(tokens / per_step) if per_step else 0,
        flops=tokens * flops_per_token(_shape_of(spec.model, shapes), mean_keys),
        start_rate=learning_rate(spec.start_tokens, spec.schedule),
        peak_rate=spec.schedule.peak_rate,
        end_rate=learning_rate(spec.stop_tokens, spec.schedule),
        trajectory_tokens=spec.trajectory_tokens,
    )
