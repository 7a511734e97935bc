"""Models made without training on the page: their own mark in one figure, a table, and nothing in curves and tiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cpt_ray.records import Merge, RunRecord
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.figures import forgetting_figure, scaling_figure
from cpt_ray.report.page import render_report
from cpt_ray.report.series import MERGED, frontiers, run_styles, trades
from cpt_ray.report.tables import tiles
from tests.report.made_up import BASE, BUDGETS, delta, make_contents, point

LARGEST = f"smollm2-135m-legal-{BUDGETS[-1]}"


def merge(weight: float, seed: int = 0) -> RunRecord:
    made = Merge(
        run=f"{LARGEST}-frontier-{weight:g}-seed{seed}",
        name="frontier",
        rule="interpolate",
        made_of=f"{LARGEST}-seed{seed}",
        weight=weight,
    )
    return RunRecord(
        run=made.run,
        kind="merge",
        model="smollm2-135m",
        arm="legal",
        seed=seed,
        budget_tokens=BUDGETS[-1],
        parent=made.made_of,
        export_path="/exports/merge",
        annealed=True,
        merge=made,
        merged_tokens=BUDGETS[-1],
    )


def with_merges(*weights: float) -> ReportContents:
    """The made-up study with interpolations, all better than any budget."""
    plain, runs = make_contents(), [merge(weight) for weight in weights]
    deltas = [
        delta(run.run, BASE, name, (value, zero), 0.002)
        for run in runs
        for name, value, zero in (("licences", 1.0, 1.347), ("news", 1.0, 1.102))
    ]
    points = [point(run.run, "legal", BUDGETS[-1], "licences", 1.0).model_copy(update={"merged": True}) for run in runs]
    comparison = plain.comparison.model_copy(
        update={"deltas": (*plain.comparison.deltas, *deltas), "points": (*plain.comparison.points, *points)}
    )
    return replace(plain, runs=(*plain.runs, *runs), comparison=comparison)


def test_a_merge_has_a_star_in_the_color_of_its_run():
    styles = run_styles(with_merges(0.5))
    star, own = styles[merge(0.5).run], styles[f"{LARGEST}-seed0"]
    assert (star.marker, star.color) == (MERGED, own.color)
    assert MERGED not in {style.marker for name, style in styles.items() if "frontier" not in name}
    assert {name: style for name, style in styles.items() if "frontier" not in name} == run_styles(make_contents())


def test_a_frontier_goes_from_the_base_over_rising_weights_to_the_run():
    (items,) = trades(with_merges(0.75, 0.25)).values()
    (line,) = frontiers(items)
    gains = {item.label: (item.gain[0], item.general[0]) for item in items}
    assert line.points == ((0.0, 0.0), gains[merge(0.25).run], gains[merge(0.75).run], gains[f"{LARGEST}-seed0"])
    assert frontiers(trades(make_contents())["licences", "news"]) == []


def test_a_cell_of_merges_is_on_the_frontier_of_its_cell():
    runs = [merge(0.5, seed) for seed in (0, 1)]
    names = (f"{LARGEST} (mean of 2 seeds)", f"{runs[0].cell} (mean of 2 seeds)")
    plain = make_contents()
    deltas = [delta(name, BASE, held, (1.0, 1.2), 0.01) for name in names for held in ("licences", "news")]
    comparison = plain.comparison.model_copy(update={"deltas": tuple(deltas)})
    contents = replace(plain, runs=(*plain.runs, *runs), comparison=comparison)
    items = trades(contents)["licences", "news"]
    assert [(item.label, item.made_of, item.weight) for item in items] == [(names[0], "", None), (names[1], names[0], 0.5)]
    assert len(frontiers(items)) == 1


@pytest.mark.parametrize("narrow", [False, True])
def test_only_the_figure_of_forgetting_changes(narrow):
    plain, merged = make_contents(), with_merges(0.5)
    assert scaling_figure(merged, narrow=narrow) == scaling_figure(plain, narrow=narrow)
    assert forgetting_figure(merged, narrow=narrow) != forgetting_figure(plain, narrow=narrow)


def test_no_tile_shows_a_merge_however_good_it_is():
    assert tiles(with_merges(0.5)) == tiles(make_contents())


def test_the_page_lists_what_each_was_made_of_and_that_nothing_was_paid():
    page = render_report(with_merges(0.25))
    assert f"<td>{merge(0.25).run}</td><td>interpolate</td>" in page
    assert f"0.25 of {LARGEST}-seed0, 0.75 of the base" in page
    assert f"<small>merge, of {LARGEST}-seed0</small>" in page
    assert "Stars were made without training" in page
    plain = render_report(make_contents())
    assert "without training" not in plain
