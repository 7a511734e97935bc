"""What `cpt-ray plan` prints of a grid: its cells, what they share, and what each adds to the cost."""

from __future__ import annotations

from cpt_ray.config.values import format_count
from cpt_ray.records import GridPlan
from cpt_ray.report.text.table import text_table


def render_grid(plan: GridPlan) -> str:
    """Render the plan of a grid as plain text."""
    header = ("cell", "runs", "of them new", "tokens seen", "tokens paid alone", "paid here", "FLOPs here")
    body: list[tuple[str, ...]] = [
        (
            cell.cell,
            str(cell.runs),
            str(cell.new_runs),
            format_count(cell.tokens_seen),
            format_count(cell.tokens_paid),
            format_count(cell.new_tokens),
            f"{cell.new_flops:.2e}",
        )
        for cell in plan.cells
    ]
    alone = sum(cell.tokens_paid for cell in plan.cells)
    runs, new = sum(cell.runs for cell in plan.cells), sum(cell.new_runs for cell in plan.cells)
    seen = max(cell.tokens_seen for cell in plan.cells)
    tokens = (format_count(count) for count in (seen, alone, plan.tokens_paid))
    body.append(("all", str(runs), str(new), *tokens, f"{plan.flops:.2e}"))
    shared = [
        f"{stage} {distinct}" + (f" for {wanted}" if wanted > distinct else "")
        for stage, (distinct, wanted) in plan.artifacts.items()
    ]
    return "\n".join(
        [
            f"Grid of study {plan.study}: {len(plan.cells)} cells; a run that an earlier cell has is not paid again",
            text_table(header, body, text_columns=1),
            f"Artifacts made, and those of all cells if nothing were shared: {', '.join(shared)}.",
        ]
    )
