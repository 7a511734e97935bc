"""Loss curves: the lineage of the final weights, thinned without losing mean or end."""

import math
import re

from cpt_ray.report.figures.loss import lineage, loss_figure, loss_lines, watched_figure
from cpt_ray.report.index import Index
from tests.report.made_up import BUDGETS, make_contents, metrics, watched


def lines_of(**changes):
    return loss_lines(Index(make_contents(**changes)))[0]


def test_of_a_step_done_twice_the_later_attempt_counts():
    first = metrics(0, 600_000, 2.0, cooldown=False)
    again = tuple(m.model_copy(update={"attempt": 2, "loss": 9.0}) for m in first[3:])
    kept = lineage((*first, *again))
    assert [m.step for m in kept] == [1, 2, 3, 4, 5]
    assert [m.attempt for m in kept] == [1, 1, 1, 2, 2]


def test_a_skipped_step_is_not_drawn_because_its_loss_may_be_no_number():
    steps = metrics(0, 600_000, 2.0, cooldown=False)
    bad = steps[2].model_copy(update={"skipped": True, "loss": math.nan, "tokens_seen": steps[1].tokens_seen})
    run = make_contents().runs[1].run
    (line,) = lines_of(metrics={run: (*steps[:2], bad, *steps[3:])})
    assert len(line.tokens) == 4
    assert all(math.isfinite(value) for value in (*line.loss, *line.smooth))
    assert lines_of(metrics={run: (bad,)}) == []
    # The control: without the flag, the same loss spoils the line.
    (spoilt,) = lines_of(metrics={run: (bad.model_copy(update={"skipped": False}),)})
    assert math.isnan(spoilt.loss[0])


def test_long_runs_are_thinned_without_losing_their_mean_or_their_end():
    steps = metrics(0, 3_000 * 120_000, 2.0, cooldown=False)
    contents = make_contents(metrics={make_contents().runs[1].run: steps})
    (line,), _ = loss_lines(Index(contents))
    assert len(line.tokens) == 300
    assert line.tokens[-1] == steps[-1].tokens_seen
    assert abs(sum(line.loss) / 300 - sum(m.loss for m in steps) / 3000) < 1e-9
    assert "mean of up to 10 steps" in loss_figure(Index(contents)).caption


def test_a_branch_starts_where_it_left_the_trunk_and_all_budgets_share_an_axis():
    lines = {line.run.run: line for line in lines_of()}
    branch = lines[f"smollm2-135m-legal-{BUDGETS[1]}-seed0"]
    assert BUDGETS[1] * 0.8 < branch.tokens[0] <= BUDGETS[1] * 0.8 + 120_000
    found = loss_figure(Index(make_contents()))
    assert len(found.panels) == 2  # loss, learning rate
    assert [entry.label for entry in found.legend][:2] == ["legal trunk and 57.6M", "legal 6M"]
    styles = [(entry.style.color, entry.style.dash) for entry in found.legend]
    assert len(set(styles)) == len(styles) == 4


def test_losses_and_learning_rates_can_be_hovered_to_the_last_step():
    loss, rates = loss_figure(Index(make_contents())).panels
    name = "legal 57.6M"
    assert f"<title>{name}: " in loss
    assert re.search(rf"<title>{name}: learning rate [\d.e-]+ at 57\.6M tokens</title>", rates)
    long = metrics(0, 3_000 * 120_000, 2.0, cooldown=False)
    contents = make_contents(metrics={make_contents().runs[1].run: long})
    assert loss_figure(Index(contents)).panels[1].count("<title>") == 60


def test_held_out_losses_during_training_are_dashed_hollow_and_the_domain_stands_first():
    found = watched_figure(Index(make_contents()))
    assert [">domain: licences, during training<" in str(found.panels[0]), len(found.panels)] == [True, 2]
    assert 'class="m"' not in found.panels[0]
    assert found.panels[0].count("stroke-dasharray") == 5
    assert "never a budget, not a score" in found.caption
    assert watched_figure(Index(make_contents(watched={}))) is None


def test_a_held_out_loss_made_again_at_the_same_place_replaces_the_first():
    run = make_contents().runs[1]
    first = watched(run)[0]
    again = first.model_copy(update={"attempt": 2, "bits_per_byte": 1.2})
    found = watched_figure(Index(make_contents(watched={run.run: (first, again)})))
    assert [row[3].raw for row in found.table.rows] == [1.2]


def test_without_metrics_there_is_no_figure():
    assert loss_figure(Index(make_contents(metrics={}))) is None
