"""Compose what the curves of a study say: fits, forecasts, efficiency ratios and decisions, from its ladders."""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.compare.decide import forecasts, share_answers, spendings
from cpt_ray.compare.efficiency import ratios, trends
from cpt_ray.compare.fits.curves import fit_compute, fit_mix, fit_sizes, fit_tokens
from cpt_ray.compare.fits.fitted import Fitted
from cpt_ray.compare.fits.ladder import Ladder, by_kept_set
from cpt_ray.compare.judgment import Judged
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.records import Answers


def answer(ladders: Sequence[Ladder], judged: Judged, config: CompareConfig, controls: frozenset[str]) -> Answers:
    """Fit every curve that the scores allow, and ask it.

    Args:
        ladders: All arms of all models on all sets.
        judged: The differences of the verdict; no answer says more than they do.
        config: The `compare` section.
        controls: Names of control arms.
    """
    level, seed = config.confidence, config.seed
    curves = {(one.model, one.arm, one.set_name): fit_tokens(one, confidence=level, seed=seed) for one in ladders}
    compute = [fit_compute(one, confidence=level, seed=seed) for one in ladders]
    sizes = [fit_sizes(group, confidence=level, seed=seed) for group in _over_sizes(ladders)]
    mixes = [fit_mix(group, confidence=level, seed=seed) for group in _over_arms(ladders)]
    mixed = [one for one in mixes if one is not None]
    # A ladder that is too short for one curve is too short for the other: it is said once.
    fitted: list[Fitted] = [*curves.values(), *(one for one in compute if one.curve is not None), *sizes, *mixed]
    return Answers(
        fits=tuple(one.record for one in fitted),
        forecasts=tuple(forecasts(ladders, curves, judged, config.next_budget_factor, level)),
        ratios=tuple(ratios(ladders, curves, controls, level)),
        trends=tuple(trends(ladders, controls, confidence=level, seed=seed)),
        shares=tuple(share_answers(ladders, judged, mixed, config.forgetting_tolerance, level)),
        spendings=tuple(spendings(ladders, curves, judged, controls, level)),
        confidence=level,
    )


def _over_sizes(ladders: Sequence[Ladder]) -> list[list[Ladder]]:
    """Ladders of one arm on one set over models, where there are several and their sizes are known."""
    groups: dict[tuple[str, str], list[Ladder]] = {}
    for one in ladders:
        if one.parameters is not None:
            groups.setdefault((one.arm, one.set_name), []).append(one)
    return [group for group in groups.values() if len(group) > 1]


def _over_arms(ladders: Sequence[Ladder]) -> list[list[Ladder]]:
    """Ladders of a model on a set over arms: those of whose domain it is, and those of whose it is not."""
    kept = by_kept_set(ladders)
    groups: list[list[Ladder]] = []
    for place in dict.fromkeys((one.model, one.set_name) for one in ladders):
        domain = [one for one in ladders if (one.model, one.set_name) == place and one.role == "domain"]
        groups += [group for group in (domain, kept.get(place, [])) if group]
    return groups
