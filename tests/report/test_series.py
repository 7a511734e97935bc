"""What the figures draw."""

import math

from cpt_ray.report.series import curves, lineage, loss_lines, run_styles, thinned_by, trades, wants_log, watched_lines
from tests.report.made_up import BASE, BUDGETS, make_contents, metrics, watched


def test_a_log_axis_needs_three_budgets_over_more_than_a_factor_of_eight():
    assert wants_log((0, 1, 4, 9))
    assert not wants_log((0, 1, 4, 8))
    assert not wants_log((0, 1, 100))


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
    line = loss_lines(make_contents(metrics={run: (*steps[:2], bad, *steps[3:])}))[0]
    assert len(line.tokens) == 4
    assert all(math.isfinite(value) for value in (*line.loss, *line.smooth))
    assert loss_lines(make_contents(metrics={run: (bad,)})) == []
    # The control: without the flag, the same loss spoils the line.
    spoilt = loss_lines(make_contents(metrics={run: (bad.model_copy(update={"skipped": False}),)}))[0]
    assert math.isnan(spoilt.loss[0])


def test_held_out_losses_during_training_are_dashed_and_the_domain_stands_first():
    panels = watched_lines(make_contents())
    assert list(panels) == [("licences", "domain"), ("news", "general")]
    for lines in panels.values():
        assert len(lines) == 5
        assert all(line.style.dash for line in lines)
        assert all(line.label.endswith(", during training") for line in lines)
    trunk = panels["licences", "domain"][0]
    assert trunk.tokens[0] == 0
    assert trunk.bits_per_byte[0] == 1.36


def test_a_held_out_loss_made_again_at_the_same_place_replaces_the_first():
    run = make_contents().runs[1]
    first = watched(run)[0]
    again = first.model_copy(update={"attempt": 2, "bits_per_byte": 1.2})
    panels = watched_lines(make_contents(watched={run.run: (first, again)}))
    assert panels["licences", "domain"][0].bits_per_byte == (1.2,)


def test_a_branch_starts_where_it_left_the_trunk():
    lines = {line.label: line for line in loss_lines(make_contents())}
    branch = lines[f"smollm2-135m-legal-{BUDGETS[1]}-seed0 (cooldown)"]
    assert BUDGETS[1] * 0.8 < branch.tokens[0] <= BUDGETS[1] * 0.8 + 120_000


def test_long_runs_are_thinned_without_losing_their_mean_or_their_end():
    steps = metrics(0, 2_000 * 120_000, 2.0, cooldown=False)
    contents = make_contents(metrics={make_contents().runs[1].run: steps})
    line = loss_lines(contents)[0]
    assert thinned_by(contents) == 4
    assert len(line.tokens) == 500
    assert line.tokens[-1] == steps[-1].tokens_seen
    assert abs(sum(line.loss) / 500 - sum(m.loss for m in steps) / 2000) < 1e-9


def test_each_curve_begins_at_its_base_and_keeps_hollow_points_apart():
    legal, control = curves(make_contents(), "licences")
    assert [p.tokens_seen for p in legal.annealed] == [0, *BUDGETS]
    assert [p.annealed for p in legal.hollow] == [False]
    assert [p.arm for p in control.annealed] == [None, "control"]
    assert control.style.dash
    assert control.style.color != legal.style.color


def test_trades_turn_the_sign_so_that_better_is_positive():
    items = trades(make_contents())["licences", "news"]
    best = next(item for item in items if str(BUDGETS[-1]) in item.label and "legal" in item.label)
    assert best.gain[0] > 0 > best.general[0]
    assert best.gain[1] < best.gain[0] < best.gain[2]


def test_runs_keep_one_style_and_the_base_has_none():
    styles = run_styles(make_contents())
    assert BASE not in styles
    assert len({(s.color, s.dash) for s in styles.values()}) == len(styles)
