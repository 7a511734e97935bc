"""Which runs a study needs: a constant-rate trunk with a cooldown branch per budget, a chain of stages, or a run per budget.

In: the study's config, and its models' budgets in tokens. Out: `RunSpec`s with everything resolved, parents before children. A
trunk is paid for once and shared by its branches (Haegele et al. 2024, section 4). Guarantee: each budget's learning rate has
decayed at its end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cpt_ray.config.budgets import cooldown_start, peak_rate, trajectory_marks, warmup_start_rate, warmup_tokens
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.records import RateSchedule, RunSpec
from cpt_ray.train.runs.merges import with_average_marks


def plan_runs(config: StudyConfig, budgets: Mapping[str, Sequence[int]] | None = None) -> list[RunSpec]:
    """Expand models x arms x budgets x seeds into runs, parents first.

    A control arm runs at the largest budget unless `train.control_budgets` is `all`; in a chain it runs every stage, because
    the last stage's schedule is part of what it controls for. An arm with a single budget needs no branch: its trunk and
    cooldown are one run (kind `independent`) on the same schedule.

    Args:
        config: The study.
        budgets: Model name to its budgets in tokens; None uses `train.budgets` for all.

    Raises:
        ConfigError: If `merges` asks for what these runs do not have.
    """
    specs: list[RunSpec] = []
    for model in config.models:
        tokens = tuple(budgets[model.name] if budgets is not None else config.train.budgets or ())
        for arm_name, arm in config.arms.items():
            largest = arm.role == "control" and config.train.control_budgets == "largest"
            few = largest and config.train.budget_mode != "chain"
            for seed in config.study.seeds:
                specs += _Ladder(config, model, arm_name, seed, tokens).runs(tokens[-1:] if few else tokens)
    return with_average_marks(config, specs)


def trajectory_specs(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Points along the way at which runs are scored; each is part of its parent and costs no further training."""
    return [
        run.model_copy(
            update={
                "name": f"{run.model}-{run.arm}-trajectory-{mark}-seed{run.seed}",
                "kind": "trajectory",
                "parent": run.name,
                "budget_tokens": None,
                "budget_flops": None,
                "start_tokens": mark,
                "stop_tokens": mark,
                "branch_tokens": (),
                "trajectory_tokens": (),
                "average_tokens": (),
            }
        )
        for run in specs
        for mark in run.trajectory_tokens
    ]


def tokens_paid(specs: Sequence[RunSpec]) -> int:
    """Tokens that all runs together train on; a trunk counts once, a chain's stage only what it adds."""
    return sum(spec.stop_tokens - spec.start_tokens for spec in specs)


def tokens_paid_ratio(specs: Sequence[RunSpec]) -> float:
    """Tokens paid for each token of the largest budget, over all models, arms and seeds.

    At 20 % cooldown, budgets D/4, D/2 and D cost 0.8 D for the trunk and 0.2 (1/4 + 1/2 + 1) D for the branches: 1.15.
    """
    largest: dict[tuple[str, str, int], int] = {}
    for spec in specs:
        key = (spec.model, spec.arm, spec.seed)
        largest[key] = max(largest.get(key, 0), spec.budget_tokens or 0)
    return tokens_paid(specs) / sum(largest.values())


@dataclass(frozen=True)
class _Ladder:
    """The budgets of one model, arm and seed. `all_budgets` are the model's, even if this arm trains fewer of them."""

    config: StudyConfig
    model: ModelConfig
    arm: str
    seed: int
    all_budgets: tuple[int, ...]

    def runs(self, budgets: Sequence[int]) -> list[RunSpec]:
        mode = self.config.train.budget_mode
        if mode == "independent" or len(budgets) == 1:
            return [self._independent(budget, is_last=budget == budgets[-1]) for budget in budgets]
        return self._chain(budgets) if mode == "chain" else self._branches(budgets)

    def _independent(self, budget: int, *, is_last: bool) -> RunSpec:
        marks = trajectory_marks(self.config.train, self._cooldown(0, budget)) if is_last else ()
        return self._spec("independent", budget, start=0, stop=budget, schedule=self._first(budget), trajectory_tokens=marks)

    def _branches(self, budgets: Sequence[int]) -> list[RunSpec]:
        starts = tuple(self._cooldown(0, budget) for budget in budgets)
        marks = trajectory_marks(self.config.train, starts[-1])
        trunk = self._spec(
            "trunk", None, start=0, stop=starts[-1], schedule=self._first(None), branch_tokens=starts, trajectory_tokens=marks
        )
        parent = {"parent": trunk.name, "optimizer": "kept"}
        branches = [
            self._spec("cooldown", budget, start=start, stop=budget, schedule=self._first(budget), **parent)
            for budget, start in zip(budgets, starts, strict=True)
        ]
        return [trunk, *branches]

    def _chain(self, budgets: Sequence[int]) -> list[RunSpec]:
        rule = self.config.train.chain
        if rule is None:
            raise ValueError("train.budget_mode is chain without train.chain, which check_train refuses")
        first = budgets[0]
        stages = [self._spec("chain", first, start=0, stop=first, schedule=self._first(first), branch_tokens=(first,))]
        for start, stop in pairwise(budgets):
            before = stages[-1]
            schedule = self._schedule(
                start,
                stop,
                warmup=rule.rewarm,
                start_rate=before.schedule.final_rate if rule.rewarm_from == "previous_final" else 0.0,
                peak=rule.peak_share * stages[0].schedule.peak_rate,
            )
            onward = (stop,) if stop != budgets[-1] else ()
            parent = {"parent": before.name, "optimizer": rule.optimizer}
            stages.append(self._spec("chain", stop, start=start, stop=stop, schedule=schedule, branch_tokens=onward, **parent))
        return stages

    def _spec(self, kind: str, budget: int | None, *, start: int, stop: int, schedule: RateSchedule, **more: object) -> RunSpec:
        flops = self.config.train.budgets_flops
        return RunSpec.model_validate(
            {
                "name": f"{self.model.name}-{self.arm}-{budget or kind}-seed{self.seed}",
                "kind": kind,
                "model": self.model.name,
                "arm": self.arm,
                "seed": self.seed,
                "budget_tokens": budget,
                "budget_flops": flops[self.all_budgets.index(budget)] if flops and budget else None,
                "parent": None,
                "start_tokens": start,
                "stop_tokens": stop,
                "schedule": schedule,
                **more,
            }
        )

    def _cooldown(self, start: int, stop: int) -> int:
        return cooldown_start(stop, self.config.train.schedule.cooldown_share, start)

    def _first(self, stop: int | None) -> RateSchedule:
        """The schedule of a run from the base to `stop`, or of a trunk."""
        train = self.config.train
        return self._schedule(
            0,
            stop,
            warmup=warmup_tokens(train.schedule, self.all_budgets),
            start_rate=warmup_start_rate(train, self.model),
            peak=peak_rate(train, self.model),
        )

    def _schedule(self, start: int, stop: int | None, *, warmup: int, start_rate: float, peak: float) -> RateSchedule:
        schedule = self.config.train.schedule
        cosine = schedule.shape == "cosine"
        return RateSchedule(
            warmup_start_tokens=start,
            warmup_tokens=warmup,
            start_rate=start_rate,
            peak_rate=peak,
            decay_start_tokens=None if stop is None else start + warmup if cosine else self._cooldown(start, stop),
            decay_end_tokens=stop,
            decay_shape="cosine" if cosine else schedule.cooldown_shape,
            final_rate=peak if stop is None else schedule.final_share * peak,
        )
