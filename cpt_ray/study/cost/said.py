"""The cost of a study as console and notebook show it."""

from __future__ import annotations

from cpt_ray.plan.explain import explain_memory, explain_time
from cpt_ray.report.text.cost import render_memory, render_time, render_verdict
from cpt_ray.report.text.plan import render_plan
from cpt_ray.study.cost.cells import Cost


def render_cost(cost: Cost, *, explain: bool = False) -> str:
    """A plan as it is printed, with the verdict at its end."""
    lines = [line for one, plan in zip(cost.asked, cost.memory, strict=True) for line in explain_memory(one, plan)]
    lines += [] if cost.hours is None else list(explain_time(cost.hours))
    parts = [render_plan(cost.plan).rstrip(), render_time(cost.time), render_memory(cost.memory)]
    parts += [_asked_of_ray(cost)] if cost.demand else []
    parts += ["\n".join(lines)] if explain else []
    fixes = {one.model: (one.overrides, one.memory.peak_bytes) for one in cost.advice}
    return "\n\n".join([*parts, render_verdict(cost.memory, cost.time, fixes)]) + "\n"


def _asked_of_ray(cost: Cost) -> str:
    workers = cost.memory[0].num_workers
    each = ", ".join(f"{amount:g} {name}" for name, amount in cost.demand.items())
    host = max(plan.host_peak_bytes for plan in cost.memory) / (1 << 30)
    said = f"{workers} training worker{'s' * (workers > 1)} with {each} each"
    return f"Asked of Ray: {said}, and {host:.1f} GiB of host memory for each"
