"""What a study will cost in tokens, steps, FLOPs and passes over its text, before anything is spent.

Place in the flow: first of all, and again once shards exist, when estimates become counts. In: the study's config, its run
specs, the shapes of its models and, once prepared, loss-bearing tokens and rows per source. Out: a `StudyPlan`.
Guarantee: pure arithmetic; the tokens of the plan are those of `train.runs`, so plan and run cannot disagree about them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from cpt_ray.config.budgets import cooldown_start
from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.config.values import format_count
from cpt_ray.errors import ConfigError
from cpt_ray.model.parameters import ModelShape, flops_per_token
from cpt_ray.records import Record, RunKind, RunSpec
from cpt_ray.train.order.batch_split import describe_idle
from cpt_ray.train.order.mixes import mixes_in_tokens
from cpt_ray.train.order.samples import PERIOD, quotas
from cpt_ray.train.runs.schedule import learning_rate
from cpt_ray.train.runs.specs import tokens_paid

_ENDLESS = 1 << 62

ASSUMED_FILL_SHARE = 0.95
"""Share of row slots that bear loss, assumed until shards exist: best-fit packing leaves few slots empty, and the first
token of each segment has no label."""


class SourceNeed(Record):
    """What one budget of one arm takes from one source."""

    arm: str
    source: str
    weight: float
    """Share of the source in all rows of the budget, over all of its mixtures, as they are drawn."""
    budget_tokens: int
    needed_tokens: int
    available_tokens: int | None
    """Loss-bearing tokens of one pass; None until prepared."""
    epochs: float | None
    """Passes; None until prepared, and where nothing is left of the source."""
    max_epochs: float
    key: str
    """The key that `max_epochs` stands under, or may be raised under."""


class PlannedMix(Record):
    """A mixture that holds during a part of a budget."""

    arm: str
    budget_tokens: int
    from_tokens: int
    weights: dict[str, float]
    """Source name to share of rows, as they are drawn: in parts of 10,000."""


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
    mixes: tuple[PlannedMix, ...]
    largest_budget: dict[str, int]
    """Arm name to the largest budget that its sources allow; empty until prepared."""
    runs: tuple[PlannedRun, ...]
    fill_share: dict[str, float]
    """Arm name to the share of row slots that bear loss."""
    fill_measured: bool
    """Whether the shares were counted in shards; otherwise they are assumed."""
    mean_keys: float
    """Mean attended keys per query in the FLOP count."""
    tokens_per_step: dict[str, float]
    """Arm name to the mean over its largest budget."""
    idle: str | None
    """What an uneven deal of rows to workers costs; None where nothing is idle."""
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
    sequence_length, batch_rows = config.prepare.pack.sequence_length, config.train.global_batch_size
    keys = mean_keys if mean_keys is not None else sequence_length / 2
    largest = dict(_arm_budgets(specs))  # budgets ascend, so the last one stays
    runs = tuple(_planned_run(config, spec, shapes, per_row, keys) for spec in specs)
    fill = {
        name: _mean_tokens_per_row(_stretches(config, config.arms[name], 0, budget, budget), per_row)
        for name, budget in largest.items()
    }
    return StudyPlan(
        study=config.study.name,
        budgets_key="train.budgets" if config.train.budgets is not None else "train.budgets_flops",
        budgets=_budgets(specs, shapes, sequence_length / 2),
        needs=tuple(need for arm, budget in _arm_budgets(specs) for need in _needs(config, arm, budget, available, per_row)),
        mixes=tuple(
            PlannedMix(arm=arm, budget_tokens=budget, from_tokens=stretch.start, weights=stretch.weights)
            for arm, budget in _arm_budgets(specs)
            for stretch in _stretches(config, config.arms[arm], 0, budget, budget)
        ),
        largest_budget={arm: _largest_budget(config, arm, available, per_row) for arm in largest} if available else {},
        runs=runs,
        fill_share={name: mean / sequence_length for name, mean in fill.items()},
        fill_measured=available is not None and rows is not None,
        mean_keys=keys,
        tokens_per_step={name: batch_rows * mean for name, mean in fill.items()},
        idle=describe_idle(batch_rows, config.runtime.workers.max, config.train.micro_batch_size),
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
        key, budget = need.key, format_count(need.budget_tokens)
        wants = f"arms.{need.arm} at budget {budget} needs {format_count(need.needed_tokens)} tokens of source {need.source}"
        if need.epochs is None:
            raise ConfigError(
                f"{wants} (weight {need.weight:.4g}), but not one is left of it",
                fix=f"check what prepare dropped from {need.source}, or take it out of arms.{need.arm}.mix",
            )
        fits = plan.largest_budget[need.arm]
        raise ConfigError(
            f"{wants} (weight {need.weight:.4g}), but there are {format_count(have)}: {need.epochs:.2f} epochs, "
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


def _largest_budget(config: StudyConfig, arm: str, available: Mapping[str, int] | None, per_row: Mapping[str, float]) -> int:
    """The largest budget that passes over no source more often than allowed, by bisection: what is needed grows with it."""

    def fits(budget: int) -> bool:
        needs = _needs(config, arm, budget, available, per_row)
        return all(need.needed_tokens <= need.max_epochs * (need.available_tokens or 0) for need in needs)

    low, high = 0, 1
    while fits(high) and high < _ENDLESS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _tokens_per_row(
    config: StudyConfig, available: Mapping[str, int] | None, rows: Mapping[str, int] | None
) -> dict[str, float]:
    assumed = ASSUMED_FILL_SHARE * config.prepare.pack.sequence_length
    result = {source.name: assumed for source in config.sources}
    if available is not None and rows is not None:
        result.update({name: available.get(name, 0) / count for name, count in rows.items() if count})
    return result


class _Stretch(NamedTuple):
    """The tokens from `start` to before `end`, drawn by one mixture."""

    start: int
    end: int
    weights: dict[str, float]

    def rows(self, per_row: Mapping[str, float]) -> dict[str, float]:
        """Rows drawn of each source."""
        mean = sum(weight * per_row[source] for source, weight in self.weights.items())
        rows = (self.end - self.start) / mean if mean else 0.0
        return {source: rows * weight for source, weight in self.weights.items()}


def _stretches(config: StudyConfig, arm: ArmConfig, start: int, stop: int, budget: int | None) -> list[_Stretch]:
    """The mixtures in force from `start` to `stop` tokens on the way to a budget; None is a trunk, which never cools down."""
    cooldown = cooldown_start(budget, config.train.schedule.cooldown_share) if budget is not None else None
    mixes = mixes_in_tokens(arm, cooldown_start_tokens=cooldown)
    ends = [*(mix.tokens for mix in mixes[1:]), stop]
    found = []
    for (begin, mix), end in zip(mixes, ends, strict=True):
        if max(begin, start) < min(end, stop):
            weights = {source: part / PERIOD for source, part in quotas(mix).items()}
            found.append(_Stretch(max(begin, start), min(end, stop), weights))
    return found


def _mean_tokens_per_row(stretches: Sequence[_Stretch], per_row: Mapping[str, float]) -> float:
    rows = sum(sum(stretch.rows(per_row).values()) for stretch in stretches)
    return sum(stretch.end - stretch.start for stretch in stretches) / rows if rows else 0.0


def _arm_budgets(specs: Sequence[RunSpec]) -> list[tuple[str, int]]:
    """Every arm with each of its budgets, arms in order, budgets ascending."""
    budgets: dict[str, set[int]] = {}
    for spec in specs:
        budgets.setdefault(spec.arm, set()).update({spec.budget_tokens} if spec.budget_tokens is not None else ())
    return [(arm, budget) for arm, of_arm in budgets.items() for budget in sorted(of_arm)]


def _needs(
    config: StudyConfig, arm_name: str, budget: int, available: Mapping[str, int] | None, per_row: Mapping[str, float]
) -> list[SourceNeed]:
    arm = config.arms[arm_name]
    rows: dict[str, float] = {}
    for stretch in _stretches(config, arm, 0, budget, budget):
        for source, drawn in stretch.rows(per_row).items():
            rows[source] = rows.get(source, 0.0) + drawn
    needs = []
    for source, drawn in rows.items():
        needed = round(drawn * per_row[source])
        have = available.get(source, 0) if available is not None else None
        single = f".max_epochs_of.{source}" if source in arm.max_epochs_of else ".max_epochs"
        needs.append(
            SourceNeed(
                arm=arm_name,
                source=source,
                weight=drawn / sum(rows.values()) if drawn else 0.0,
                budget_tokens=budget,
                needed_tokens=needed,
                available_tokens=have,
                epochs=needed / have if have else None,
                max_epochs=arm.max_epochs_of.get(source, arm.max_epochs),
                key=f"arms.{arm_name}{single}",
            )
        )
    return needs


def _planned_run(
    config: StudyConfig, spec: RunSpec, shapes: Mapping[str, ModelShape], per_row: Mapping[str, float], mean_keys: float
) -> PlannedRun:
    tokens = tokens_paid([spec])
    stretches = _stretches(config, config.arms[spec.arm], spec.start_tokens, spec.stop_tokens, spec.budget_tokens)
    rows = sum(sum(stretch.rows(per_row).values()) for stretch in stretches)
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
        steps=math.ceil(rows / config.train.global_batch_size),
        flops=tokens * flops_per_token(_shape_of(spec.model, shapes), mean_keys),
        start_rate=learning_rate(spec.start_tokens, spec.schedule),
        peak_rate=spec.schedule.peak_rate,
        end_rate=learning_rate(spec.stop_tokens, spec.schedule),
        trajectory_tokens=spec.trajectory_tokens,
    )
