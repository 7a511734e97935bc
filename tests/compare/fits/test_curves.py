"""The curves of a study: over compute, over size, in the mix, and what they are asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from cpt_ray.compare.fits.curves import (
    change_at,
    fit_compute,
    fit_mix,
    fit_sizes,
    fit_tokens,
    largest,
    log_tokens_to,
    predicted,
)
from cpt_ray.compare.fits.forms import MIX
from cpt_ray.compare.fits.spread import linear_spread, spread_of
from cpt_ray.records import Answers
from cpt_ray.report.text.answers import answer_tables
from tests.compare.fits.made_up import TOKENS, falling, make_ladder

LEVEL = {"confidence": 0.95, "seed": 0}


def test_the_exponent_over_compute_is_that_over_tokens():
    found = fit_compute(make_ladder(lambda x: 0.8 * (x / 128e6) ** -0.05), **LEVEL).record
    scale, exponent = found.parameters
    assert scale.low < 0.8 < scale.high
    assert exponent.low < 0.05 < exponent.high
    assert (found.kind, found.model, found.arm) == ("compute", "m", "legal")


def test_the_exponent_over_size_takes_each_models_largest_budget():
    ladders = [
        make_ladder(
            lambda x, size=size: 2.0 * size**-0.1 * (x / 128e6) ** -0.01, model=f"m{size}", parameters=size, random_seed=size
        )
        for size in (100, 400, 1600, 6400)
    ]
    found = fit_sizes(ladders, **LEVEL).record
    assert (found.kind, found.model, found.points, found.scores) == ("size", None, 4, 12)
    assert found.parameters[1].low < 0.1 < found.parameters[1].high
    assert any("4 points" in line for line in found.warnings)


def test_a_curve_in_tokens_is_drawn_from_the_base_to_its_largest_budget():
    ladder = make_ladder()
    curve = fit_tokens(ladder, confidence=0.95, seed=0).record.curve
    assert (curve[0].tokens, curve[0].bits_per_byte, curve[0].low, curve[0].high) == (0.0, 1.0, 1.0, 1.0)
    assert curve[-1].tokens == pytest.approx(TOKENS[-1])
    assert [one.tokens for one in curve] == sorted({one.tokens for one in curve})
    for one in curve[1:]:
        assert one.low < falling(one.tokens) < one.high
        assert one.high - one.low < 0.1


def test_between_budgets_the_drawn_interval_is_nearly_that_of_a_prediction():
    ladder = make_ladder(noise=3e-3)
    fitted = fit_tokens(ladder, confidence=0.95, seed=0)
    exact = spread_of(fitted.curve, change_at(24e6), 0.95).bounds()
    drawn = linear_spread(fitted.curve, change_at(24e6), 0.95).bounds()
    assert drawn == pytest.approx(exact, rel=0.05)


def test_what_was_refused_is_not_drawn():
    assert fit_tokens(make_ladder(tokens=TOKENS[:2]), confidence=0.95, seed=0).record.curve == ()


@pytest.mark.parametrize("random_seed", range(4))
def test_a_prediction_is_at_least_as_uncertain_as_the_largest_budget_that_was_run(random_seed):
    """Flat scores of seeds that differ: the curve alone may be surer of the next budget than of the last."""
    ladder = make_ladder(lambda x: 1 + 0 * x, noise=0.02, random_seed=random_seed)
    curve = fit_tokens(ladder, confidence=0.95, seed=0).curve
    plain = spread_of(curve, change_at(2 * TOKENS[-1]), 0.95)
    found = predicted(curve, ladder, change_at(2 * TOKENS[-1]), 0.95)
    ends = largest(ladder).losses
    half = stdtrit(2, 0.975) * ends.std(ddof=1) / math.sqrt(3)
    assert found.value == plain.value
    assert found.value - found.low >= half * (1 - 1e-9)
    assert found.high - found.value >= half * (1 - 1e-9)
    assert (found.subsets == plain.subsets).all()


def test_two_sizes_are_no_curve():
    ladders = [make_ladder(model=f"m{size}", parameters=size) for size in (100, 400)]
    assert fit_sizes(ladders, **LEVEL).record.refused == "2 model sizes: a curve needs at least 3"


def test_the_largest_budget_of_a_ladder_has_all_its_seeds():
    found = largest(make_ladder())
    assert found.budgets == (int(TOKENS[-1]),) * 3
    assert found.seeds == (0, 1, 2)
    assert found.subset_losses.shape[1] == len(found.losses) == 3


def mixed(role="domain", shares=(0.25, 0.5, 0.75, 1.0), **changes):
    law = np.log([0.5, 0.1, 0.3, 0.25, 0.05, 0.5, 0.1])

    def losses(share):
        def curve(x):
            own = np.full(len(x), share if role == "domain" else 1 - share)
            return np.exp(MIX.log_loss(law, np.stack([x / TOKENS[-1], own], axis=-1)))

        return curve

    return [
        make_ladder(losses(share), arm=f"arm{share}", share=share, role=role, random_seed=int(100 * share), **changes)
        for share in shares
    ]


@pytest.mark.parametrize("role", ["domain", "general"])
def test_the_form_in_the_mix_is_fitted_over_arms(role):
    found = fit_mix(mixed(role), **LEVEL)
    assert (found.record.kind, found.record.arm, found.record.points) == ("mix", None, 32)
    searched, design = found.curve.solution.searched, np.array([[1.0, 0.6]])
    truth = np.exp(MIX.log_loss(np.log([0.5, 0.1, 0.3, 0.25, 0.05, 0.5, 0.1]), design))
    assert np.exp(MIX.log_loss(searched, design)) == pytest.approx(truth, rel=3e-3)


def test_what_no_study_determines_of_the_form_in_the_mix_is_said_and_not_printed():
    found = fit_mix(mixed(shares=(0.2, 0.4, 0.6, 0.8)), **LEVEL).record
    assert "gamma and epsilon cannot be determined from the shares of a study, nor E, B and C with them" in found.warnings[0]
    assert {one.name for one in found.parameters} == {"eta", "beta"}
    (table,) = answer_tables(Answers(fits=(found,)))
    (row,) = table.rows
    assert "gamma " not in row[table.header.index("parameters")]
    assert "gamma and epsilon cannot be determined" in row[table.header.index("warnings")]


def test_fewer_points_than_parameters_are_no_mix_however_many_seeds():
    ladders = mixed(shares=(0.25, 0.5, 1.0))
    for budgets, refused in ((1, "3 points and 7 parameters: many curves go through all of them"), (2, "6 points"), (3, "")):
        shorter = [one.__class__(**{**one.__dict__, **some_budgets(one, budgets)}) for one in ladders]
        found = fit_mix(shorter, **LEVEL)
        assert found.record.refused.startswith(refused)
        assert (found.curve is None) is bool(refused)


def some_budgets(ladder, number):
    """The arrays of a ladder at its largest budgets."""
    kept = [place for place, budget in enumerate(ladder.budgets) if budget in TOKENS[-number:]]
    columns = {name: getattr(ladder, name)[kept] for name in ("tokens", "flops", "losses")}
    rows = {name: tuple(getattr(ladder, name)[place] for place in kept) for name in ("seeds", "budgets")}
    return {**columns, **rows, "subset_losses": ladder.subset_losses[:, kept]}


def test_fewer_than_three_shares_are_no_mix():
    assert fit_mix(mixed(shares=(0.5, 1.0)), **LEVEL) is None
    assert fit_mix([make_ladder()], **LEVEL) is None


def test_the_tokens_to_a_change_are_the_inverse_of_the_change_at_tokens():
    curve = fit_tokens(make_ladder(), **LEVEL).curve
    searched, design = curve.solution.searched, curve.scores.design
    for tokens in (1e6, 3e7, 5e8):
        change = float(change_at(tokens)(searched, design))
        assert float(log_tokens_to(-change)(searched, design)) == pytest.approx(np.log(tokens), rel=1e-6)


def test_a_loss_below_the_floor_is_never_reached():
    curve = fit_tokens(make_ladder(), **LEVEL).curve
    assert float(log_tokens_to(0.9)(curve.solution.searched, curve.scores.design)) == pytest.approx(np.log(1e4 * 128e6))
