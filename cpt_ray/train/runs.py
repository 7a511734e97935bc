"""Which runs a study needs: a constant-rate trunk with a cooldown branch per budget, or a run per budget.

In: the study's config. Out: `RunSpec`s, parents before children. A trunk is paid once and shared by its branches
(Haegele et al. 2024, section 4).
"""

from cpt_ray.config.study import StudyConfig
from cpt_ray.records import RunSpec


def plan_runs(config: StudyConfig) -> list[RunSpec]:
    """Expand models x arms x budgets x seeds into runs, parents first.

    A control arm runs at the largest budget unless `train.control_budgets` says `all`. An arm with a single budget needs no
    branch: its trunk and cooldown are one run (kind `independent`) on the same schedule.
    """
    specs: list[RunSpec] = []
    for model in config.models:
        for arm_name, arm in config.arms.items():
            control = arm.role == "control" and config.train.control_budgets == "largest"
            budgets = config.train.budgets[-1:] if control else config.train.budgets
            for seed in config.study.seeds:
                specs += _arm_runs(config, model.name, arm_name, seed, budgets)
    return specs


def cooldown_start(budget_tokens: int, share: float) -> int:
    """The `tokens_seen` at which a budget's cooldown begins."""
    return budget_tokens - round(budget_tokens * share)


def tokens_paid(specs: list[RunSpec]) -> int:
    """Tokens that all runs together train on; a trunk counts once."""
    return sum(spec.stop_tokens - spec.start_tokens for spec in specs)


def _arm_runs(config: StudyConfig, model: str, arm: str, seed: int, budgets: tuple[int, ...]) -> list[RunSpec]:
    share = config.train.schedule.cooldown_share
    prefix = f"{model}-{arm}"
    branching = config.train.budget_mode == "branch" and len(budgets) > 1
    specs: list[RunSpec] = []
    starts = tuple(cooldown_start(budget, share) for budget in budgets)
    trunk = f"{prefix}-trunk-seed{seed}"
    if branching:
        specs.append(
            RunSpec(
                name=trunk,
                kind="trunk",
                model=model,
                arm=arm,
                seed=seed,
                budget_tokens=None,
                parent=None,
                start_tokens=0,
                stop_tokens=starts[-1],
                cooldown_start_tokens=None,
                branch_tokens=starts,
            )
        )
    for budget, start in zip(budgets, starts, strict=True):
        specs.append(
            RunSpec(
                name=f"{prefix}-{budget}-seed{seed}",
                kind="cooldown" if branching else "independent",
                model=model,
                arm=arm,
                seed=seed,
                budget_tokens=budget,
                parent=trunk if branching else None,
                start_tokens=start if branching else 0,
                stop_tokens=budget,
                cooldown_start_tokens=start,
            )
        )
    return specs
