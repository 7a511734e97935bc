"""The table of made-up studies: what each must say, in the headline, the forecasts and the decisions, and never beyond it.

Every study has four budgets, unless it is about having one; a probe that no arm trains on, and a control.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from cpt_ray.compare.comparison import Facts, compare
from cpt_ray.records import Comparison
from cpt_ray.report.text.answers import answer_tables
from tests.compare.conftest import CONFIG, Laboratory

pytestmark = pytest.mark.accept(answer=2)

BUDGETS = (8_000, 16_000, 32_000, 64_000)
FALLING = (0.97, 0.94, 0.92, 0.9)
RISING = (1.01, 1.02, 1.03, 1.04)
SAME = (1.0,) * 4


def add_study(
    laboratory: Laboratory,
    law: Sequence[float] = FALLING,
    news: Sequence[float] = SAME,
    *,
    control: tuple[float, float] = (0.98, 1.0),
    seeds: Sequence[float] = (0.0,),
    noise: float = 1e-3,
    model: str = "m",
    flops_per_token: float = 1e9,
    general: tuple[int, int] | None = None,
    sets: tuple[str, ...] = ("law", "news"),
) -> None:
    """Add a model: `law` and `news` by budget, moved by each of `seeds`; `general` correct items of a general task."""
    base, right = general or (None, None)
    laboratory.add(model=model, right=base, suite="general", noise=noise, sets=sets)
    fields = {"model": model, "noise": noise, "flops_per_token": flops_per_token, "suite": "general", "right": right}
    fields["sets"] = sets
    for seed, moved in enumerate(seeds):
        for budget, one, other in zip(BUDGETS, law, news, strict=False):
            laboratory.add("legal", budget, seed=seed, law=one + moved, news=other + moved, **fields)
        laboratory.add("control", BUDGETS[len(law) - 1], seed=seed, law=control[0] + moved, news=control[1] + moved, **fields)


def conclude(laboratory: Laboratory) -> Comparison:
    parameters = {"m": 100, "small": 100, "large": 400}
    facts = Facts(control_arms=frozenset({"control"}), control_draws={"legal": frozenset({"news"})}, parameters=parameters)
    return compare(laboratory.evals, laboratory.folders, laboratory.runs, CONFIG, facts)


def two_sizes(laboratory: Laboratory) -> None:
    add_study(laboratory, model="small")
    add_study(laboratory, (0.95, 0.9, 0.86, 0.82), model="large", flops_per_token=4e9)


class Told(NamedTuple):
    """What a study must say.

    Attributes:
        make: Adds its models and runs.
        headlines: The headline after `... tokens of legal on`, for each model.
        says: Parts of the verdict in full.
        forecasts: Of the domain and of general texts, for the first model: better, worse, or None and why.
    """

    make: Callable[[Laboratory], None]
    headlines: tuple[str, ...]
    says: tuple[str, ...]
    forecasts: tuple[bool | str | None, ...]


ZERO = "the interval holds zero"
SHORT = "1 budget: a curve needs at least 3, besides the base"
GAIN = "m: domain gain 0.100 bits/byte (0.080 beyond the control), no measurable forgetting; more training is indicated."
TOO_MUCH = "unclear, because it still helps the domain, and whether it forgets too much cannot be told"
STUDIES = {
    "no effect": Told(
        lambda one: add_study(one, SAME, control=(1.0, 1.0), noise=0.01),
        (
            "m: no measurable domain gain (not measurably beyond the control), no measurable forgetting; more training is not "
            "indicated.",
        ),
        ("smallest measurable difference", "so nothing shows that the domain text did more than additional training alone"),
        (ZERO, ZERO),
    ),
    "gain": Told(
        add_study,
        (GAIN,),
        ("bits per byte on law fell by 0.1", "against the equal-token control m-control-64000-seed0"),
        (True, ZERO),
    ),
    "gain and forgetting": Told(
        lambda one: add_study(one, news=RISING),
        ("m: domain gain 0.100 bits/byte (0.080 beyond the control), forgetting 0.040 on news; reduce forgetting first.",),
        ("forgetting, more than the tolerance of 0.02", "more tokens still help the domain: raise the replay share"),
        (True, False),
    ),
    "forgetting that may be tolerable": Told(
        lambda one: add_study(one, news=(1.004, 1.009, 1.014, 1.02), noise=0.01),
        ("m: domain gain 0.100 bits/byte (0.078 beyond the control), forgetting 0.019 on news; more training: unclear.",),
        ("forgetting, and it cannot be told whether more than the tolerance of 0.02", TOO_MUCH),
        (True, ZERO),
    ),
    "forgetting that is not settled": Told(
        lambda one: add_study(one, (0.9, 0.8, 0.6, 0.2), (1.0, 1.0, 1.0, 1.055), noise=0.1, sets=("law", "news", "essays")),
        ("m: domain gain 0.803 bits/byte (0.763 beyond the control), forgetting on news not settled; more training: unclear.",),
        (
            "general text (news) rose by 0.0436 (95 % interval 0.00",
            "not settled, p = 0.090 among all sets compared) against the base, though forgetting above",
            TOO_MUCH,
        ),
        (ZERO, ZERO, ZERO),
    ),
    "loss": Told(
        lambda one: add_study(one, RISING),
        (
            "m: domain loss 0.040 bits/byte (0.060 behind the control), no measurable forgetting; more training is not "
            "indicated.",
        ),
        ("so the model got worse on its own domain",),
        (False, ZERO),
    ),
    "better control": Told(
        lambda one: add_study(one, control=(0.85, 0.9)),
        ("m: domain gain 0.100 bits/byte (0.050 behind the control), no measurable forgetting; more training is indicated.",),
        ("the same number of tokens of the control's text did more", "an opportunity cost, not forgetting"),
        (True, ZERO),
    ),
    "one budget": Told(
        lambda one: add_study(one, (0.9,), (1.0,)),
        ("m: domain gain 0.100 bits/byte (0.080 beyond the control), no measurable forgetting; more tokens unknown.",),
        ("with only one budget, it is unknown whether more tokens would help",),
        (SHORT, SHORT),
    ),
    "several sizes": Told(
        two_sizes,
        (
            "small: domain gain 0.100 bits/byte (0.080 beyond the control), no measurable forgetting; more training is "
            "indicated.",
            "large: domain gain 0.180 bits/byte (0.160 beyond the control), no measurable forgetting; more training is "
            "indicated.",
        ),
        ("64k tokens of legal on small: ", "64k tokens of legal on large: "),
        (True, ZERO),
    ),
    "several seeds": Told(
        lambda one: add_study(one, seeds=(-1e-3, 0.0, 1e-3)),
        (GAIN,),
        ("against the equal-token control m-control-64000 (mean of 3 seeds)",),
        (True, ZERO),
    ),
    "two seeds that disagree": Told(
        lambda one: add_study(one, (0.99, 0.985, 0.98, 0.975), seeds=(-0.02, 0.02)),
        ("m: no measurable domain gain (beyond the control: not settled), no measurable forgetting; more training: unclear.",),
        ("whether more training helps is unclear, because no gain over the base is measurable",),
        (ZERO, ZERO),
    ),
    "a general task is forgotten": Told(
        lambda one: add_study(one, general=(30, 18)),
        (
            "m: domain gain 0.100 bits/byte (0.080 beyond the control), forgetting 30.0 points on smoke; reduce forgetting "
            "first.",
        ),
        ("accuracy fell by 30.0 points (95 % interval 16.7 to 43.8, -40.0 % relative) against the base: forgetting",),
        (True, ZERO),
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_made_up_study_says_what_it_shows(name, tmp_path):
    told, laboratory = STUDIES[name], Laboratory(tmp_path)
    told.make(laboratory)
    found = conclude(laboratory)

    budget = "8k" if name == "one budget" else "64k"
    assert found.headline == " ".join(f"{budget} tokens of legal on {one}" for one in told.headlines)
    assert all(len(f"64k tokens of legal on {one}".split()) <= 25 for one in told.headlines)
    for part in told.says:
        assert part in found.verdict
    model = told.headlines[0].split(":")[0]
    forecasts = [one for one in found.answers.forecasts if (one.model, one.arm) == (model, "legal")]
    assert tuple(one.better if one.better is not None else one.unsure or one.missing for one in forecasts) == told.forecasts
    check_that_nothing_says_more_than_the_verdict(found)


def check_that_nothing_says_more_than_the_verdict(found: Comparison) -> None:
    """Every certain forecast has a measurable difference in its direction, and so has every share that exceeds a tolerance."""
    measured = {
        (delta.subject.split("-")[0], delta.subject.split("-")[1], delta.set_name): delta.better
        for delta in found.deltas
        if delta.reference.endswith("-base")
        and delta.measure == "bits_per_byte"
        and "seed" in delta.subject
        # Of several seeds, the mean stands first; single seeds are no verdict.
        and (delta.seeds > 1 or not any(other.seeds > 1 for other in found.deltas))
    }
    for one in found.answers.forecasts:
        if one.better is not None:
            assert measured[one.model, one.arm, one.set_name] is one.better
    for spending in found.answers.spendings:
        if spending.answer.startswith("More tokens"):
            assert "more training is indicated" in found.verdict


def test_one_document_says_that_nothing_was_judged_and_why(tmp_path):
    laboratory = Laboratory(tmp_path, documents=1)
    add_study(laboratory)
    found = conclude(laboratory)

    assert found.headline == (
        "64k tokens of legal on m: domain gain not judged (control not judged), forgetting not judged; more training is "
        "not judged."
    )
    assert {delta.interval for delta in found.deltas} == {None}
    assert {delta.better for delta in found.deltas} == {None}
    assert "law: no interval, and so no judgment: 1 unit is too few: at least 10 are needed." in found.notes
    assert {one.missing for one in found.answers.forecasts if one.arm == "legal"} == {
        "1 documents are too few for an interval: at least 10 are needed"
    }
    assert all(one.answer.startswith("The data cannot tell") for one in found.answers.spendings)


@pytest.mark.parametrize(("seeds", "said"), [((0.0,), True), ((0.0, 1e-3), False)])
def test_one_seed_says_what_is_missing(seeds, said, laboratory):
    add_study(laboratory, seeds=seeds)
    found = conclude(laboratory)

    assert any(note.startswith("One seed: intervals cover the evaluation items only") for note in found.notes) is said
    assert any("not training randomness" in delta.interval.kind for delta in found.deltas if delta.seeds > 1) is False
    assert (found.answers.forecasts[0].seeds == 1) is said
    tables = answer_tables(found.answers)
    assert any(note.startswith("One seed: how far another seed") for table in tables for note in table.notes) is said
