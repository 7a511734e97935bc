"""What `cpt-ray plan` prints. Every estimate or assumption is labeled as such."""

from __future__ import annotations

from cpt_ray.config.values import format_count
from cpt_ray.records import SourceNeed, StudyPlan
from cpt_ray.report.text.table import text_table

UNKNOWN = "unknown until prepared"


def render_plan(plan: StudyPlan) -> str:
    """Render tokens, runs and FLOPs as plain text; `cost` has memory and time."""
    parts = [f"Plan of study {plan.study}", _render_totals(plan), _render_budgets(plan), _render_needs(plan)]
    parts += [*_render_mixes(plan), _render_runs(plan), *_render_merges(plan)]
    return "\n\n".join(parts) + "\n"


def _render_totals(plan: StudyPlan) -> str:
    saving = (
        f"{format_count(plan.tokens_paid)} of {format_count(plan.tokens_independent)} "
        f"({100 * plan.paid_ratio:.0f} % of running each budget independently)"
    )
    lines = [
        ("tokens seen", f"{format_count(plan.tokens_seen)} by the model that sees the most"),
        ("tokens paid", saving),
        ("arithmetic", f"{_flops(plan.flops)}, attention over {plan.mean_keys:g} keys on average"),
    ]
    if plan.measured_flops is not None:
        keys = ", ".join(f"{source} {mean:.0f}" for source, mean in plan.measured_keys.items())
        counted = f"{_flops(plan.measured_flops)} as training counts: padding too, keys of packed documents ({keys} on average)"
        lines.append(("measured", counted))
    if plan.idle:
        lines.append(("idle", plan.idle))
    return "\n".join(f"{name:<13}{text}" for name, text in lines)


def _render_budgets(plan: StudyPlan) -> str:
    header = ("model", "FLOPs per token", "budget", "FLOPs")
    body = [
        (item.model, f"{item.flops_per_token:.3e}", format_count(item.budget_tokens), f"{item.flops:.3e}")
        for item in plan.budgets
    ]
    note = "FLOPs cover forward and backward, with attention over half a row; a budget's cover all its tokens since the base."
    return "Budgets, in tokens and training FLOPs\n" + text_table(header, body, text_columns=1) + "\n" + note


def _render_needs(plan: StudyPlan) -> str:
    header = ("arm", "source", "weight", "budget", "needed", "available", "epochs", "allowed")
    body = [_need_row(need) for need in plan.needs]
    return "Tokens needed per arm, budget and source\n" + text_table(header, body, text_columns=2)


def _need_row(need: SourceNeed) -> tuple[str, ...]:
    return (
        need.arm,
        need.source,
        f"{need.weight:.4g}",
        format_count(need.budget_tokens),
        format_count(need.needed_tokens),
        UNKNOWN if need.available_tokens is None else format_count(need.available_tokens),
        "?" if need.epochs is None else f"{need.epochs:.2f}",
        f"{need.max_epochs:g}",
    )


def _render_mixes(plan: StudyPlan) -> list[str]:
    """How mixtures change within a budget, if they do; a single mixture is already in the table of needs."""
    counts: dict[tuple[str, int], int] = {}
    for mix in plan.mixes:
        counts[mix.arm, mix.budget_tokens] = counts.get((mix.arm, mix.budget_tokens), 0) + 1
    body = [
        (
            mix.arm,
            format_count(mix.budget_tokens),
            format_count(mix.from_tokens),
            ", ".join(f"{source} {weight:g}" for source, weight in mix.weights.items()),
        )
        for mix in plan.mixes
        if counts[mix.arm, mix.budget_tokens] > 1
    ]
    title = "Mixture schedule, as shares of rows; a mixture starts at the row where its token count is due\n"
    return [title + text_table(("arm", "budget", "from", "mixture"), body, text_columns=4)] if body else []


def _render_runs(plan: StudyPlan) -> str:
    header = ("run", "kind", "from", "to", "cooldown at", "tokens paid", "steps", "FLOPs", "rate at start", "peak", "end")
    body: list[tuple[str, ...]] = [
        (
            run.run,
            run.kind,
            format_count(run.start_tokens),
            format_count(run.stop_tokens),
            "-" if run.cooldown_start_tokens is None else format_count(run.cooldown_start_tokens),
            format_count(run.tokens_paid),
            f"~{run.steps:,}",
            f"{run.flops:.2e}",
            *(f"{rate:.3g}" for rate in (run.start_rate, run.peak_rate, run.end_rate)),
        )
        for run in plan.runs
    ]
    steps = sum(run.steps for run in plan.runs)
    body.append(("all", "", "", "", "", format_count(plan.tokens_paid), f"~{steps:,}", f"{plan.flops:.2e}", "", "", ""))
    origin = "counted in the shards" if plan.fill_measured else "assumed until prepared"
    shares = ", ".join(f"{arm} {100 * share:.1f} %" for arm, share in plan.fill_share.items())
    note = f"Steps are estimates. Share of loss-bearing row slots, {origin}: {shares}. A run stops by tokens, not steps."
    lines = ["Runs, in tokens, with their learning rate", text_table(header, body, text_columns=2), note]
    lines += [
        f"{run.run} is also scored as is, not annealed, at {', '.join(map(format_count, run.trajectory_tokens))} tokens."
        for run in plan.runs
        if run.trajectory_tokens
    ]
    return "\n".join(lines)


def _render_merges(plan: StudyPlan) -> list[str]:
    """The models made without training, if there are any."""
    if not plan.merges:
        return []
    table = text_table(("model", "made of"), [(merge.run, str(merge)) for merge in plan.merges], text_columns=2)
    note = "Each is scored and takes the disk of an export; none is a budget."
    return [f"Made without training, no tokens paid\n{table}\n{note}"]


def _flops(flops: float) -> str:
    return f"{flops:.2e} FLOPs"
