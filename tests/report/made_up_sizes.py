"""A made-up study of several models, arms, budgets and seeds, of any size. No figure here was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.records import (
    Answers,
    Comparison,
    Conclusion,
    Delta,
    EfficiencyRatio,
    Estimated,
    EvalRecord,
    Fit,
    Point,
    RatioTrend,
    RunRecord,
    StepMetrics,
)
from cpt_ray.report.contents import ReportContents
from tests.report.made_up import delta, evaluation, make_contents, metrics, point, run_record

SETS = {"licences": "domain", "news": "general"}
TARGET = "the control's lowest loss"
PARAMETERS = {"m1": 1_000_000, "m4": 4_000_000, "m16": 16_000_000}


def loss_of(set_name: str, model: str, arm: str, budget: int, seed: int, arms: Sequence[str]) -> float:
    """Larger models start lower; later domain arms gain more; the control gains on general text too."""
    base = {"licences": 1.4, "news": 1.1}[set_name] - 0.1 * list(PARAMETERS).index(model)
    if not budget:
        return base
    domain = arm != "control"
    gain = 0.05 + 0.1 * (arms.index(arm) + 1) / len(arms) if domain else 0.02
    scale = (budget / 1e6) ** 0.4 / 4
    sign = 1.0 if set_name == "licences" else -0.05 if domain else 1.0
    return base - sign * gain * scale + 0.002 * seed


def make_sizes(
    models: Sequence[str] = ("m1", "m4", "m16"),
    arms: Sequence[str] = ("matched", "legal"),
    budgets: Sequence[int] = (2_000_000, 8_000_000, 32_000_000),
    seeds: Sequence[int] = (0, 1),
    *,
    control: bool = True,
    steps: int = 40,
) -> ReportContents:
    """The records of such a study; every run is independent."""
    runs: list[RunRecord] = []
    points: list[Point] = []
    deltas: list[Delta] = []
    evals: list[EvalRecord] = []
    step_metrics: dict[str, tuple[StepMetrics, ...]] = {}
    trained = [*arms, *(["control"] if control else [])]
    for model in models:
        base = f"{model}-base"
        runs.append(RunRecord(run=base, kind="base", model=model, export_path=f"/exports/{base}", annealed=True))
        evals.append(_scored(base, model, None, None, 0, [loss_of(name, model, "", 0, 0, arms) for name in SETS]))
        points += [_point(base, model, None, None, 0, name, loss_of(name, model, "", 0, 0, arms)) for name in SETS]
        for arm in trained:
            for budget in budgets:
                for seed in seeds:
                    run = run_record(
                        f"{model}-{arm}-{budget}-seed{seed}", "independent", arm, 0, budget, model=model, seed=seed
                    )
                    runs.append(_sized(run, PARAMETERS[model]))
                    values = [loss_of(name, model, arm, budget, seed, arms) for name in SETS]
                    evals.append(_scored(run.run, model, arm, seed, budget, values))
                    points += [
                        _point(run.run, model, arm, seed, budget, name, value) for name, value in zip(SETS, values, strict=True)
                    ]
                    step_metrics[run.run] = metrics(0, budget, 2.0, cooldown=True, per_step=budget // steps)
                deltas += _deltas(model, arm, budget, seeds, arms, base)
                if control and arm != "control":
                    deltas += _deltas(model, arm, budget, seeds, arms, _cell(model, "control", budget, seeds), other="control")
    configs = {arm: ArmConfig(role="domain", mix={"licences": 1.0}) for arm in arms}
    if control:
        configs["control"] = ArmConfig(role="control", mix={"news": 1.0})
    said = "domain gain 0.1 bits per byte, no measurable forgetting."
    conclusions = tuple(
        Conclusion(model=model, arm=arm, headline=f"{model}, {arm}: {said}", verdict="A verdict.")
        for model in models
        for arm in arms
    )
    comparison = Comparison(
        points=tuple(points), deltas=tuple(deltas), conclusions=conclusions, notes=(),
        tokens_seen=budgets[-1], tokens_paid=sum(run.tokens_paid for run in runs),
        answers=_answers(models, arms, control=control),
    )  # fmt: skip
    return replace(
        make_contents(watched={}, planned=None), study="sizes", runs=tuple(runs), metrics=step_metrics, comparison=comparison,
        evals=tuple(evals), arms=configs,
    )  # fmt: skip


def make_two_domains() -> ReportContents:
    """One size and two domain arms: `matched` trains on the licences, `legal` on the news, each a probe for the other."""
    contents = make_sizes(models=("m1",), seeds=(0,))
    found = contents.comparison
    probe = {"matched": "news", "legal": "licences"}
    deltas = [
        one.model_copy(update={"role": "probe" if probe.get(one.subject.split("-")[1]) == one.set_name else "domain"})
        for one in found.deltas
    ]
    points = [one.model_copy(update={"role": "domain"}) for one in found.points]
    comparison = found.model_copy(update={"deltas": tuple(deltas), "points": tuple(points)})
    configs = {**contents.arms, "legal": ArmConfig(role="domain", mix={"news": 1.0})}
    return replace(contents, comparison=comparison, arms=configs)


def _cell(model: str, arm: str, budget: int, seeds: Sequence[int]) -> str:
    cell = f"{model}-{arm}-{budget}"
    return f"{cell}-seed{seeds[0]}" if len(seeds) == 1 else f"{cell} (mean of {len(seeds)} seeds)"


def _deltas(
    model: str, arm: str, budget: int, seeds: Sequence[int], arms: Sequence[str], reference: str, *, other: str = ""
) -> list[Delta]:
    subject, found = _cell(model, arm, budget, seeds), []
    for name in SETS:
        value = sum(loss_of(name, model, arm, budget, seed, arms) for seed in seeds) / len(seeds)
        zero = loss_of(name, model, other, budget if other else 0, 0, arms)
        found.append(delta(subject, reference, name, (value, zero), 0.01))
    return found


def _point(run: str, model: str, arm: str | None, seed: int | None, tokens: int, name: str, value: float) -> Point:
    return point(run, arm, tokens, name, value).model_copy(update={"model": model, "seed": seed})


def _scored(run: str, model: str, arm: str | None, seed: int | None, budget: int, values: Sequence[float]) -> EvalRecord:
    return evaluation(run, arm, budget, values[0], values[1], 0.3).model_copy(update={"model": model, "seed": seed})


def _sized(run: RunRecord, parameters: int) -> RunRecord:
    trained = run.training
    assert trained is not None
    cost = trained.cost.model_copy(update={"flops": 6.0 * parameters * run.tokens_seen})
    return run.model_copy(update={"training": trained.model_copy(update={"cost": cost})})


def _answers(models: Sequence[str], arms: Sequence[str], *, control: bool) -> Answers:
    fits = tuple(
        Fit(
            kind="compute", formula="a (x/x_max)^-b", model=model, arm=arm, set_name="licences", role="domain", points=3,
            scores=6, seeds=2, degrees_of_freedom=4, residual_percent=0.2,
            parameters=(
                Estimated(name="a", value=1.2, low=1.1, high=1.3), Estimated(name="b", value=0.03, low=0.02, high=0.04),
            ),
        )
        for model in models
        for arm in arms[:4]
    )  # fmt: skip
    ratios = tuple(_ratio(model, arm) for model in models for arm in arms[:4]) if control else ()
    trend = RatioTrend(
        arm=arms[0],
        set_name="licences",
        target=TARGET,
        sizes=len(models),
        exponent=None,
        missing="too few",
    )
    return Answers(fits=fits, ratios=ratios, trends=(trend,) if control else ())


def _ratio(model: str, arm: str) -> EfficiencyRatio:
    fields = {
        "model": model, "parameters": PARAMETERS[model], "arm": arm, "control": "control", "set_name": "licences",
        "basis": "measured", "target": TARGET, "target_loss": 1.2, "ratio": None,
    }  # fmt: skip
    if model == "m4":
        return EfficiencyRatio(**fields, bound=">", bound_value=4.0)
    return EfficiencyRatio(**{**fields, "ratio": Estimated(name="ratio", value=3.0, low=2.0, high=5.0)})
