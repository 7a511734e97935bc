"""The text of a grid's plan: a row per cell, the sum of what is new, and what is shared."""

from cpt_ray.records import GridPlan, PlannedCell
from cpt_ray.report.text.grid import render_grid


def cell(name: str, *, new_runs: int, new_tokens: int, peak: int = 2, fits=True, new_train_s=30.0) -> PlannedCell:
    return PlannedCell(
        cell=name, runs=4, new_runs=new_runs, tokens_seen=24_000, tokens_paid=50_000, new_tokens=new_tokens, new_flops=1e12,
        peak_bytes=peak << 30, fits=fits, new_train_s=new_train_s,
    )  # fmt: skip


def test_a_grid_is_tabled_with_what_each_cell_adds():
    cells = (
        cell("mix-half", new_runs=4, new_tokens=50_000),
        cell("mix-most", new_runs=3, new_tokens=26_000, peak=9, fits=False),
    )
    text = render_grid(GridPlan(study="s", cells=cells, artifacts={"shards": (1, 2), "train": (7, 8)}))
    first, second, total = text.splitlines()[2:5]
    assert first.split()[:3] == ["mix-half", "4", "4"]
    assert second.split() == ["mix-most", "4", "3", "24k", "50k", "26k", "1.00e+12", "30.0", "s", "9.00", "no"]
    assert total.split() == ["all", "8", "7", "24k", "100k", "76k", "2.00e+12", "1", "min", "00", "s", "9.00", "no"]
    assert "shards 1 for 2, train 7 for 8" in text


def test_what_is_not_known_of_a_cell_is_not_known_of_the_sum():
    cells = (cell("a", new_runs=4, new_tokens=50_000), cell("b", new_runs=4, new_tokens=9, fits=None, new_train_s=None))
    *_, second, total, _ = render_grid(GridPlan(study="s", cells=cells, artifacts={"train": (8, 8)})).splitlines()
    assert second.split()[-3:] == ["?", "2.00", "?"]
    assert total.split()[-3:] == ["?", "2.00", "?"]
