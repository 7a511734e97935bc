"""What a token of a study's runs cost: their measured seconds, on so many devices, at a dated price of an hour.

In: run records, and the price that the command names or the hardware's profile has. Out: `TokenPrices`, or None where no price
is known.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cpt_ray.compare.prices import TokenPrices
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError
from cpt_ray.plan.hardware import HardwareProfile, Price
from cpt_ray.records import RunRecord
from cpt_ray.study.cost.place import Choice


def token_prices(
    runs: Sequence[RunRecord], runtime: RuntimeConfig, choice: Choice, found: HardwareProfile | None
) -> TokenPrices | None:
    """What a token cost, by model and arm.

    Args:
        runs: All runs of the study.
        runtime: The `runtime` section.
        choice: What the command names.
        found: The profile of this machine's device, for its price if the command names none.

    Raises:
        ConfigError: If the hardware that the command names has no price, or is of another kind than the runs computed on.
    """
    trained = [run for run in runs if run.training is not None and run.kind != "trajectory" and run.tokens_paid > 0]
    if not trained:
        return None
    on_gpu = any(run.training.cost.device_peak_bytes is not None for run in trained if run.training)
    price = _price(choice, found, on_gpu=on_gpu)
    if price is None:
        return None
    each = 1.0 if on_gpu else runtime.cpus_per_worker if runtime.kind == "ray" else float(os.cpu_count() or 1)
    hours: dict[tuple[str, str], float] = {}
    tokens: dict[tuple[str, str], int] = {}
    for run in trained:
        place = run.model, run.arm or ""
        hours[place] = hours.get(place, 0.0) + _device_hours(run, each)
        tokens[place] = tokens.get(place, 0) + run.tokens_paid
    kind = "GPU" if on_gpu else "CPU"
    return TokenPrices(
        {place: price.per_hour * hours[place] / tokens[place] for place in hours},
        price.currency,
        f"{price.per_hour:g} {price.currency} per {kind} hour on {price.date}, at the pace of the arm's runs",
    )


def _device_hours(run: RunRecord, each: float) -> float:
    """Of a run's steps, checkpoints and held-out losses; starts and exports are left out."""
    if run.training is None:
        return 0.0
    cost, workers = run.training.cost, run.training.world_sizes[-1]
    return (cost.wall_s + cost.checkpoint_s + cost.held_out_s) * workers * each / 3600


def _price(choice: Choice, found: HardwareProfile | None, *, on_gpu: bool) -> Price | None:
    named = choice.hardware
    if named is not None and named.is_gpu != on_gpu:
        raise ConfigError(
            f"--hardware {named.name}: the runs of this study computed on {'GPUs' if on_gpu else 'CPUs'}",
            fix="name the hardware that they computed on, or --price alone",
        )
    if choice.price is not None:
        return choice.price
    if named is not None:
        if named.price is None:
            raise ConfigError(
                f"--hardware {named.name}: this profile has no price",
                fix="add --price 2.5 --currency USD, or price to the profile",
            )
        return named.price
    return found.price if found is not None and found.is_gpu == on_gpu else None
