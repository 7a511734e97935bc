"""What `cpt-ray plan` prints of a grid: its cells, what they share, and what each adds to the cost."""

from __future__ import annotations

from cpt_ray.config.values import format_count
from cpt_ray.records import GridPlan
from cpt_ray.report.text.table import text_table
from cpt_ray.report.wording import duration

_GIB = 1 << 30
_FITS = {True: "yes", False: "no", None: "?"}


def render_grid(plan: GridPlan) -> str:
    """Render the plan of a grid as plain text."""
    header = (
        *("cell", "runs", "of them new", "tokens seen", "tokens paid alone", "paid here", "FLOPs here", "training here"),
        *("peak, GiB", "fits"),
    )
    body: list[tuple[str, ...]] = [
        (
            cell.cell,
            str(cell.runs),
            str(cell.new_runs),
            format_count(cell.tokens_seen),
            format_count(cell.tokens_paid),
            format_count(cell.new_tokens),
            f"{cell.new_flops:.2e}",
            "?" if cell.new_train_s is None else duration(cell.new_train_s),
            f"{cell.peak_bytes / _GIB:.2f}",
            _FITS[cell.fits],
        )
        for cell in plan.cells
    ]
    alone = sum(cell.tokens_paid for cell in plan.cells)
    runs, new = sum(cell.runs for cell in plan.cells), sum(cell.new_runs for cell in plan.cells)
    seen = max(cell.tokens_seen for cell in plan.cells)
    tokens = (format_count(count) for count in (seen, alone, plan.tokens_paid))
    times = [cell.new_train_s for cell in plan.cells if cell.new_train_s is not None]
    time = duration(sum(times)) if len(times) == len(plan.cells) else "?"
    worst = max(cell.peak_bytes for cell in plan.cells)
    fits = {cell.fits for cell in plan.cells}
    every = _FITS[False if False in fits else None if None in fits else True]
    body.append(("all", str(runs), str(new), *tokens, f"{plan.flops:.2e}", time, f"{worst / _GIB:.2f}", every))
    shared = [
        f"{stage} {distinct}" + (f" for {wanted}" if wanted > distinct else "")
        for stage, (distinct, wanted) in plan.artifacts.items()
    ]
    return "\n".join(
        [
            f"Grid of study {plan.study}: {len(plan.cells)} cells; what an earlier cell has is not paid again",
            text_table(header, body, text_columns=1),
            f"Artifacts made, and those of all cells if nothing were shared: {', '.join(shared)}.",
        ]
    )
