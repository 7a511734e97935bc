"""Models made without training on the page: their own mark in one figure, a table, and nothing in curves and results."""

from __future__ import annotations

from dataclasses import replace

from cpt_ray.records import Merge, RunRecord
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.figures.scaling import scaling_figure
from cpt_ray.report.figures.svg import MARKERS
from cpt_ray.report.figures.trade import frontiers, trade_figure, trades
from cpt_ray.report.index import Index
from cpt_ray.report.page import render_report
from cpt_ray.report.tables.results import result_tables
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


PAIR = ("licences", "news")


def test_a_merge_has_a_star_in_the_color_of_its_arm():
    (panel,) = trade_figure(Index(with_merges(0.5)), [PAIR]).panels
    groups = [part for part in str(panel).split('<g class="k0') if MARKERS["*"] in part]
    assert len(groups) == 1
    assert MARKERS["*"] not in trade_figure(Index(make_contents()), [PAIR]).panels[0]


def test_a_frontier_goes_from_the_base_over_rising_weights_to_the_run():
    items = trades(Index(with_merges(0.75, 0.25)), PAIR)
    ((end, between),) = frontiers(items)
    assert end.subject == f"{LARGEST}-seed0"
    assert [item.subject for item in between] == [merge(0.25).run, merge(0.75).run]
    assert frontiers(trades(Index(make_contents()), PAIR)) == []


def test_a_cell_of_merges_is_on_the_frontier_of_its_cell():
    runs = [merge(0.5, seed) for seed in (0, 1)]
    names = (f"{LARGEST} (mean of 2 seeds)", f"{runs[0].cell} (mean of 2 seeds)")
    plain = make_contents()
    deltas = [delta(name, BASE, held, (1.0, 1.2), 0.01) for name in names for held in ("licences", "news")]
    comparison = plain.comparison.model_copy(update={"deltas": tuple(deltas)})
    contents = replace(plain, runs=(*plain.runs, *runs), comparison=comparison)
    items = trades(Index(contents), PAIR)
    assert [(item.subject, item.made_of, item.weight) for item in items] == [(names[0], "", None), (names[1], names[0], 0.5)]
    assert len(frontiers(items)) == 1


def test_only_the_figure_of_forgetting_changes():
    plain, merged = Index(make_contents()), Index(with_merges(0.5))
    assert scaling_figure(merged, merged.sets) == scaling_figure(plain, plain.sets)
    assert trade_figure(merged, [PAIR]) != trade_figure(plain, [PAIR])


def test_no_result_shows_a_merge_however_good_it_is():
    assert result_tables(Index(with_merges(0.5))) == result_tables(Index(make_contents()))


def test_the_page_lists_what_each_was_made_of_and_that_nothing_was_paid():
    page = render_report(with_merges(0.25))
    assert f"{merge(0.25).run}</th>" in page
    assert ">interpolate</td>" in page
    assert f"0.25 of {LARGEST}-seed0, 0.75 of the base" in page
    assert f"<small>merge, of {LARGEST}-seed0</small>" in page
    assert "Stars were made without training" in page
    plain = render_report(make_contents())
    assert "without training" not in plain
