"""Limits of a plan: too many epochs of a source, budgets and marks closer than one optimizer step, a model that does not fit.

After `plan.budget`, before anything is trained. In: a `StudyPlan`, `MemoryPlan`s. Out: nothing, or an error that names the
run, the numbers and values that work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from cpt_ray.config.values import format_count
from cpt_ray.errors import ConfigError
from cpt_ray.records import MemoryPlan, StudyPlan

_GIB = 1 << 30


def check_epochs(plan: StudyPlan) -> None:
    """Refuse a plan that repeats a source more often than its arm allows.

    Sources whose tokens are not known yet are not checked.

    Raises:
        ConfigError: Names the first budget that needs too much, the tokens available, and the largest budget that fits.
    """
    for need in plan.needs:
        have = need.available_tokens
        if have is None or need.needed_tokens <= need.max_epochs * have:
            continue
        key, budget = need.key, format_count(need.budget_tokens)
        wants = f"arms.{need.arm} at budget {budget} needs {format_count(need.needed_tokens)} tokens of source {need.source}"
        if need.epochs is None:
            raise ConfigError(
                f"{wants} (weight {need.weight:.4g}), but no token of it is left after preparation",
                fix=f"check what prepare dropped from {need.source}, or remove it from arms.{need.arm}.mix",
            )
        fits = plan.largest_budget[need.arm]
        raise ConfigError(
            f"{wants} (weight {need.weight:.4g}), but it has {format_count(have)}: {need.epochs:.2f} epochs, "
            f"and {key} is {need.max_epochs:g}",
            fix=f"set {key} to at least {math.ceil(need.epochs * 100) / 100:g} to allow repeats, or lower {plan.budgets_key} "
            f"to at most {fits}{' tokens' if plan.budgets_key.endswith('flops') else ''}, the largest that fits this arm",
        )


def check_cooldowns(plan: StudyPlan) -> None:
    """Refuse a cooldown shorter than one optimizer step, and trajectory marks less than one step apart.

    Raises:
        ConfigError: Names the run, its tokens and the tokens of a step.
    """
    for run in plan.runs:
        step = plan.tokens_per_step[run.arm]
        cooldown = step if run.cooldown_start_tokens is None else run.stop_tokens - run.cooldown_start_tokens
        if cooldown < step:
            raise ConfigError(
                f"run {run.run} cools down over {format_count(cooldown)} tokens, less than one optimizer step of about "
                f"{format_count(round(step))}: its learning rate would not decay",
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
        for mark, following in pairwise((*run.average_tokens, run.stop_tokens)):
            if following - mark < step:
                raise ConfigError(
                    f"run {run.run}: an average in merges takes its weights at {mark} and {following} tokens, closer than one "
                    f"optimizer step of about {format_count(round(step))} tokens: they would be the same model",
                    fix=f"set merges.*.average.every to at least {math.ceil(step)}, or lower train.global_batch_size",
                )


def check_memory(memory: Sequence[MemoryPlan]) -> None:
    """Refuse a model whose states alone do not fit the GPU; activations come on top.

    Raises:
        ConfigError: Names the model, the bytes of its states and those of the GPU.
    """
    for plan in memory:
        if plan.card is not None and plan.device_bytes > plan.card.memory_bytes:
            raise ConfigError(
                f"the states of {plan.model} take {plan.device_bytes / _GIB:.1f} GiB on each of {plan.num_workers} worker(s), "
                f"ZeRO stage {plan.zero_stage}, but {plan.card.name} has {plan.card.memory_bytes / _GIB:.1f} GiB",
                fix="offload (train.deepspeed=ds_configs/zero3_bf16_offload_cpu.json), share them among more workers at a "
                "higher stage, or train adapters (train.lora)",
            )
