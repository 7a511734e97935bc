"""Everything that the curves of a study say, together."""

from __future__ import annotations

from cpt_ray.compare.answers import answer
from cpt_ray.compare.judgment import Judged
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.records import Answers
from tests.compare.fits.made_up import TOKENS, falling, make_ladder

CONTROLS = frozenset({"control"})


def study(**changes):
    ladders = []
    for size in (100, 400, 1600):
        own = {"model": f"m{size}", "parameters": size, "flops_per_token": 6.0 * size, **changes}
        control = {**own, "arm": "control", "share": 0.0}
        ladders += [
            make_ladder(**{"share": 0.9, "random_seed": size, **own}),
            make_ladder(lambda x: falling(x / 3), **{"random_seed": size + 1, **control}),
        ]
    return answer(ladders, Judged(), CompareConfig(next_budget_factor=3.0), CONTROLS)


def test_every_curve_is_fitted_and_asked():
    found = study()
    assert {kind: sum(one.kind == kind for one in found.fits) for kind in ("tokens", "compute", "size", "mix")} == {
        "tokens": 6,
        "compute": 6,
        "size": 2,
        "mix": 0,
    }
    assert len(found.forecasts) == 6
    assert {one.tokens for one in found.forecasts} == {3 * TOKENS[-1]}
    assert len(found.ratios) == 3 * 2 * 2
    assert [one.sizes for one in found.trends] == [3]
    assert [one.factor for one in found.spendings] == [2.0, 4.0]
    assert Answers.from_json(found.to_json()) == found


def test_the_same_scores_give_the_same_answers():
    assert study() == study()


def test_a_short_study_says_why_once_for_each_ladder():
    found = study(tokens=TOKENS[:2])
    assert {one.kind for one in found.fits} == {"tokens", "size"}
    assert {one.refused for one in found.fits if one.kind == "tokens"} == {
        "2 budgets: a curve needs at least 3, besides the base"
    }


def test_arms_of_another_domain_have_a_form_in_the_mix_of_their_own():
    """Three shares of law, two of news: only the first have a form, on each set."""
    ladders = [
        make_ladder(arm=f"{domain}{share}", share=share, set_name=name, random_seed=int(100 * share),
                    role="domain" if domain == name else "probe")
        for domain, shares in (("law", (0.3, 0.6, 0.9)), ("news", (0.5, 0.8)))
        for share in shares
        for name in ("law", "news")
    ]  # fmt: skip
    found = answer(ladders, Judged(), CompareConfig(), CONTROLS)
    mixes = [one for one in found.fits if one.kind == "mix"]
    assert [(one.set_name, one.role, one.points) for one in mixes] == [("law", "domain", 24), ("news", "probe", 24)]
    assert {(one.set_name, tuple(row.arm for row in one.rows)) for one in found.shares} == {
        ("news", ("law0.3", "law0.6", "law0.9")),
        ("law", ("news0.5", "news0.8")),
    }
