"""The cost of a study as console and notebook show it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from cpt_ray.plan.advice import Asked
from cpt_ray.plan.explain import explain_memory, explain_time
from cpt_ray.report.text.cost import render_disk, render_memory, render_time, render_verdict
from cpt_ray.report.text.grid import render_grid
from cpt_ray.report.text.plan import render_plan
from cpt_ray.study.cost.cells import Cost
from cpt_ray.study.cost.grid import GridCost

_MOST_NAMES = 3


def render_cost(cost: Cost, *, explain: bool = False, fit: bool = False) -> str:
    """A plan as it is printed, with the verdict at its end.

    Args:
        cost: What was planned.
        explain: Show the arithmetic too.
        fit: Show the largest micro-batch that fits too.
    """
    parts = [render_plan(cost.plan).rstrip(), render_time(cost.time), render_memory(cost.memory), render_disk(cost.disk)]
    parts += [_asked_of_ray(cost)] if cost.demand else []
    parts += ["\n".join(_arithmetic(cost))] if explain else []
    parts += ["\n".join(_largest({"": cost}))] if fit else []
    return "\n\n".join([*parts, render_verdict(cost.memory, cost.time, _fixes(cost))]) + "\n"


def render_grid_cost(cost: GridCost, *, explain: bool = False, fit: bool = False) -> str:
    """The plan of a grid as it is printed: its cells, all together, and the cell that needs the most memory by its name.

    Args:
        cost: What was planned.
        explain: Show the arithmetic of that cell too.
        fit: Show the largest micro-batch that fits too, with the cells that it is of.
    """
    name, worst = cost.worst, cost.cells[cost.worst]
    parts = [
        render_grid(cost.plan),
        render_time(cost.time),
        f"{render_memory(worst.memory)}\nOf cell {name}, which needs the most.",
        render_disk(cost.disk),
    ]
    parts += [_asked_of_ray(worst)] if worst.demand else []
    parts += ["\n".join([f"Arithmetic of cell {name}", *_arithmetic(worst)])] if explain else []
    parts += ["\n".join(_largest(cost.cells))] if fit else []
    parts.append(f"for the runs of one cell: --only {shlex.quote(name)}")
    refused = [cell.cell for cell in cost.plan.cells if cell.fits is False]
    verdict = [f"{len(refused)} of {len(cost.cells)} cells do not fit: {_names(refused)}"] if refused else []
    verdict.append(f"cell {name}, which needs the most memory:")
    return "\n\n".join([*parts, "\n".join([*verdict, render_verdict(worst.memory, cost.time, _fixes(worst))])]) + "\n"


def _fixes(cost: Cost) -> dict[str, tuple[tuple[str, ...], int]]:
    return {one.model: (one.overrides, one.memory.peak_bytes) for one in cost.advice}


def _arithmetic(cost: Cost) -> list[str]:
    lines = [line for one, plan in zip(cost.asked, cost.memory, strict=True) for line in explain_memory(one, plan)]
    return lines + ([] if cost.hours is None else list(explain_time(cost.hours)))


def _asked_of_ray(cost: Cost) -> str:
    workers = cost.memory[0].num_workers
    each = ", ".join(f"{amount:g} {name}" for name, amount in cost.demand.items())
    host = max(plan.host_peak_bytes for plan in cost.memory) / (1 << 30)
    said = f"{workers} training worker{'s' * (workers > 1)} with {each} each"
    return f"Asked of Ray: {said}, and {host:.1f} GiB of host memory for each"


def _largest(cells: dict[str, Cost]) -> Iterator[str]:
    """The largest micro-batch of each model; cells that have the same are said together."""
    found: dict[str, list[str]] = {}
    for name, cost in cells.items():
        for one in cost.asked:
            found.setdefault(_largest_of(one), []).append(name)
    for line, names in found.items():
        of = "" if names == [""] else f", in {'all cells' if len(names) == len(cells) else _names(names)}"
        yield line + of


def _largest_of(one: Asked) -> str:
    rows = one.rows()
    if rows is None:
        return f"largest micro-batch of {one.model}: none fits"
    if one.work.room_bytes is None:
        return f"largest micro-batch of {one.model}: the memory of a worker is not known; name it with --hardware"
    peak = one.with_rows(rows).memory().peak_bytes / (1 << 30)
    return f"largest micro-batch of {one.model}: train.micro_batch_size={rows}  ({peak:.2f} GiB)"


def _names(cells: Sequence[str]) -> str:
    more = len(cells) - _MOST_NAMES
    return ", ".join(cells[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
