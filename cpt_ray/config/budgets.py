"""Rules between budgets, schedule and the base's learning rates: the arithmetic and the error messages.

In: the `train` and `models` sections. Out: rates and token marks. `train/runs/specs.py` builds every run from these, so
what is checked is what is trained. Guarantee: pure; every error is a ValueError that names the keys and a value that works.
"""

from collections.abc import Sequence
from itertools import pairwise

from cpt_ray.config.sections.schedule import ScheduleConfig
from cpt_ray.config.sections.train import ModelConfig, TrainConfig

DEFAULT_WARMUP_SHARE = 0.01
"""Ibrahim et al. 2024 (arXiv 2403.08763), section 6.1: 0.5, 1 and 2 % end at the same loss, no warm-up gives a spike."""


def peak_rate(train: TrainConfig, model: ModelConfig) -> float:
    """The peak learning rate of a model's runs.

    Raises:
        ValueError: If it is a rate of the base that the study does not give.
    """
    named, factor = train.learning_rate, train.learning_rate_factor * model.learning_rate_factor
    if isinstance(named, float):
        return named * factor
    key = "peak_learning_rate" if named == "base_peak" else "final_learning_rate"
    return _base_rate(model, key, f"train.learning_rate is {named}") * factor


def warmup_start_rate(train: TrainConfig, model: ModelConfig) -> float:
    """The learning rate at the start of a model's first warm-up.

    Raises:
        ValueError: If it is the base's final rate, and that is unknown or above the peak.
    """
    if train.schedule.warmup_from == "zero":
        return 0.0
    start = _base_rate(model, "final_learning_rate", "train.schedule.warmup_from is base_final")
    peak = peak_rate(train, model)
    if start > peak:
        raise ValueError(
            f"models.{model.name}.final_learning_rate is {start:g}, above the peak of {peak:g} that train.learning_rate and "
            "train.learning_rate_factor give, so the warm-up would decrease; set train.schedule.warmup_from to zero"
        )
    return start


def warmup_tokens(schedule: ScheduleConfig, budgets: Sequence[int]) -> int:
    """Length of the first warm-up, in tokens."""
    return schedule.warmup if schedule.warmup is not None else round(DEFAULT_WARMUP_SHARE * budgets[0])


def cooldown_start(stop_tokens: int, share: float, start_tokens: int = 0) -> int:
    """The `tokens_seen` at which the cooldown of a budget begins, or of a chain's stage that starts at `start_tokens`."""
    return stop_tokens - round((stop_tokens - start_tokens) * share)


def trajectory_marks(train: TrainConfig, constant_end: int) -> tuple[int, ...]:
    """The token counts, ascending, at which a run with a constant rate until `constant_end` is scored without cooldown."""
    halvings = range(train.trajectory_points - 1, -1, -1)
    marks = train.trajectory_tokens or [round(constant_end / 2**power) for power in halvings]
    return tuple(marks)


def check_train(train: TrainConfig, models: Sequence[ModelConfig]) -> None:
    """Refuse a `train` section that contradicts itself or lacks a rate of the base.

    Raises:
        ValueError: Names the keys and what to set.
    """
    budgets = train.budgets if train.budgets is not None else train.budgets_flops
    if budgets is None or (train.budgets is not None and train.budgets_flops is not None):
        seen = "neither" if budgets is None else "both"
        raise ValueError(f"train needs one of budgets (tokens) and budgets_flops, saw {seen}")
    name = "train.budgets" if train.budgets is not None else "train.budgets_flops"
    if list(budgets) != sorted(set(budgets)) or budgets[0] <= 0:
        raise ValueError(f"{name} must be above 0 and ascend without repeats, saw {list(budgets)}")
    _check_mode(train, several=len(budgets) > 1)
    for model in models:
        peak_rate(train, model)
        warmup_start_rate(train, model)
    if train.trajectory_tokens or train.trajectory_points:
        _check_trajectory(train)
    if train.budgets is not None:
        check_tokens(train, train.budgets, "")


def check_tokens(train: TrainConfig, budgets: Sequence[int], model: str) -> None:
    """Refuse budgets that leave no room for the warm-up, a re-warm-up or a trajectory mark.

    Args:
        train: The section.
        budgets: In tokens, ascending.
        model: The model they belong to, where `budgets_flops` gives each model its own; else an empty string.

    Raises:
        ValueError: Names the keys and the largest value that works.
    """
    schedule, whose = train.schedule, f" of {model}" if model else ""
    warmup = warmup_tokens(schedule, budgets)
    first = _constant_end(schedule, 0, budgets[0])
    if warmup > first:
        raise ValueError(
            f"train.schedule.warmup is {warmup} tokens, but the cooldown of the smallest budget{whose}, {budgets[0]}, "
            f"begins at {first}; set train.schedule.warmup to at most {first}"
        )
    if train.budget_mode == "chain" and train.chain is not None:
        for start, stop in pairwise(budgets):
            room = _constant_end(schedule, start, stop) - start
            if train.chain.rewarm > room:
                raise ValueError(
                    f"train.chain.rewarm is {train.chain.rewarm} tokens, but the cooldown of the stage{whose} from {start} to "
                    f"{stop} begins {room} tokens after its start; set train.chain.rewarm to at most {room}"
                )
    if train.trajectory_tokens or train.trajectory_points:
        end = _constant_end(schedule, 0, budgets[-1])
        marks = trajectory_marks(train, end)
        if list(marks) != sorted(set(marks)) or marks[0] < 1 or marks[-1] > end:
            key = "trajectory_tokens" if train.trajectory_tokens else "trajectory_points"
            raise ValueError(
                f"train.{key} gives the marks {list(marks)}{whose}, which must be above 0, ascend without repeats, and fall "
                f"where the rate is constant: at most {end}, where the cooldown of the largest budget begins"
            )


def _check_mode(train: TrainConfig, *, several: bool) -> None:
    schedule = train.schedule
    if not several:
        return
    if train.budget_mode == "branch" and schedule.shape == "cosine":
        raise ValueError(
            "train.schedule.shape is cosine and train.budget_mode is branch, but a checkpoint from the middle of a cosine "
            "run has not decayed and is not a budget; set train.schedule.shape to constant_cooldown, or train.budget_mode to "
            "chain or independent"
        )
    if train.budget_mode == "branch" and schedule.cooldown_share == 1:
        raise ValueError(
            "train.schedule.cooldown_share is 1, so there is no constant part to branch from; lower it, or set "
            "train.budget_mode to independent"
        )
    if train.budget_mode == "chain":
        if train.chain is None:
            raise ValueError(
                "train.budget_mode is chain, but train.chain is not set, which says how a later stage starts; for example"
                " set "
                "train.chain: {rewarm: 4M, rewarm_from: previous_final, peak_share: 1, optimizer: kept}"
            )
        if train.chain.rewarm_from == "previous_final" and schedule.final_share > train.chain.peak_share:
            raise ValueError(
                f"train.chain.peak_share is {train.chain.peak_share:g}, below train.schedule.final_share, "
                f"{schedule.final_share:g}, so a later stage would begin above its peak; set train.chain.peak_share to at "
                f"least {schedule.final_share:g}"
            )


def _check_trajectory(train: TrainConfig) -> None:
    if train.trajectory_tokens and train.trajectory_points:
        raise ValueError(
            "train.trajectory_tokens and train.trajectory_points both choose the trajectory points; set only one of them"
        )
    key = "trajectory_tokens" if train.trajectory_tokens else "trajectory_points"
    if train.schedule.shape == "cosine":
        raise ValueError(
            f"train.{key} needs a constant learning rate, and train.schedule.shape cosine has no constant part; "
            "set train.schedule.shape to constant_cooldown"
        )
    if train.budget_mode == "chain":
        raise ValueError(
            f"train.{key} needs one constant-rate trunk, and train.budget_mode chain has none; "
            "set train.budget_mode to branch or independent"
        )


def _constant_end(schedule: ScheduleConfig, start: int, stop: int) -> int:
    """The last position at which the rate may be at its peak; a cosine needs one token to decay."""
    return stop - 1 if schedule.shape == "cosine" else cooldown_start(stop, schedule.cooldown_share, start)


def _base_rate(model: ModelConfig, key: str, wanted_by: str) -> float:
    rate: float | None = getattr(model, key)
    if model.is_new:
        setting, _, value = wanted_by.partition(" is ")
        raise ValueError(
            f"{wanted_by}, but model {model.name} starts from random weights, so no rate of {value} is known; set {setting} to "
            f"{'a number' if setting == 'train.learning_rate' else 'zero'}"
        )
    if rate is None:
        raise ValueError(
            f"{wanted_by}, but models.{model.name}.{key} is not set; set models.{model.name}.{key} to the value in the base's "
            "model card"
        )
    return rate
