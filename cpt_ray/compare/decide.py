"""What to do next: gain and forgetting at the next budget, the largest domain share, how to spend a multiple of the compute.

In: ladders, their curves, the differences of the verdict. Out: records with intervals. Guarantee: where an interval holds both
answers, or the verdict cannot tell, the answer is that the data cannot tell (`compare.judgment`).
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Literal

import numpy as np

from cpt_ray.compare.efficiency import Curves
from cpt_ray.compare.fits.curves import change_at, loss_at, predicted
from cpt_ray.compare.fits.fitted import Fitted, estimated, estimated_spread
from cpt_ray.compare.fits.forms import MIX
from cpt_ray.compare.fits.ladder import SUBSETS, Ladder, by_kept_set
from cpt_ray.compare.fits.spread import Spread, spread_of
from cpt_ray.compare.judgment import Judged, predict, prefer, within
from cpt_ray.evaluate.intervals import Floats
from cpt_ray.records import Estimated, Forecast, ShareAnswer, ShareRow, Spending, SpendingOption

FACTORS = (2.0, 4.0)
"""FLOPs of the next run, in multiples of the largest."""
REACH = 8.0
"""Predictions end at this multiple of a curve's largest budget: its interval does not cover the form being another beyond."""
Kind = Literal["more tokens", "another size", "other data"]
_SHARES = np.linspace(0, 1, 201)


def forecasts(ladders: Sequence[Ladder], curves: Curves, judged: Judged, factor: float, confidence: float) -> list[Forecast]:
    """The change that each curve predicts at `factor` times its largest budget."""
    found = []
    for ladder in ladders:
        fitted = _of(ladder, curves)
        tokens = factor * float(ladder.tokens.max())
        forecast = Forecast(
            model=ladder.model, arm=ladder.arm, set_name=ladder.set_name, role=ladder.role, tokens=tokens,
            seeds=len(set(ladder.seeds)), change=None, missing=fitted.record.refused,
        )  # fmt: skip
        if fitted.curve is not None:
            change = estimated_spread("change", predicted(fitted.curve, ladder, change_at(tokens), confidence))
            better, unsure = predict(change, judged.against_base.get(_place(ladder, max(ladder.budgets))))
            forecast = forecast.model_copy(update={"change": change, "better": better, "unsure": unsure})
        found.append(forecast)
    return found


def share_answers(
    ladders: Sequence[Ladder], judged: Judged, mixes: Sequence[Fitted], tolerance: float, confidence: float
) -> list[ShareAnswer]:
    """The largest domain share within the tolerance, for each model and each set that is not of the domain."""
    answers = []
    on_others = {(one.record.model, one.record.set_name): one for one in mixes if one.record.role != "domain"}
    for (model, set_name), arms in by_kept_set(ladders).items():
        known = [one for one in arms if one.share is not None]
        budget = max((b for one in known for b in one.budgets if _arms_at(known, b) > 1), default=None)
        if budget is None:
            continue
        rows = [_share_row(one, budget, judged, tolerance) for one in known if budget in one.budgets]
        rows.sort(key=lambda row: row.share)
        fitted = on_others.get((model, set_name))
        answers.append(
            ShareAnswer(
                model=model, set_name=set_name, budget_tokens=budget, tolerance=tolerance, rows=tuple(rows),
                answer=_share_words(rows, tolerance),
                fitted=_fitted_share(fitted, tolerance, confidence) if fitted is not None else "",
            )
        )  # fmt: skip
    return answers


def spendings(
    ladders: Sequence[Ladder], curves: Curves, judged: Judged, controls: frozenset[str], confidence: float
) -> list[Spending]:
    """More tokens, another size or other data, for each domain set and multiple of the largest run's FLOPs."""
    found = []
    domain = [one for one in ladders if one.role == "domain" and one.arm not in controls and one.flops.min() > 0]
    for set_name in dict.fromkeys(one.set_name for one in domain):
        own = [one for one in domain if one.set_name == set_name]
        most = max(own, key=lambda one: float(one.flops.max()))
        for factor in FACTORS:
            flops = factor * float(most.flops.max())
            options = _options(most, own, curves, flops, confidence)
            step = judged.last_step.get((most.model, most.arm, set_name))
            helps = step is not None and step.better is True
            words = _spending_words(options, still_helps=helps, confidence=confidence)
            found.append(Spending(set_name=set_name, factor=factor, flops=flops, options=tuple(options), answer=words))
    return found


def _place(ladder: Ladder, budget: int) -> tuple[str, str, int, str]:
    return ladder.model, ladder.arm, budget, ladder.set_name


def _of(ladder: Ladder, curves: Curves) -> Fitted:
    return curves[ladder.model, ladder.arm, ladder.set_name]


def _arms_at(ladders: Sequence[Ladder], budget: int) -> int:
    return sum(budget in one.budgets for one in ladders)


def _share_row(ladder: Ladder, budget: int, judged: Judged, tolerance: float) -> ShareRow:
    """The row of an arm; its difference is the one that the verdict uses."""
    delta = judged.against_base.get(_place(ladder, budget))
    change = None
    if delta is not None and delta.interval is not None:
        change = estimated("change", delta.difference, delta.interval.low, delta.interval.high)
    return ShareRow(arm=ladder.arm, share=ladder.share or 0.0, change=change, within=within(delta, tolerance))


def _share_words(rows: Sequence[ShareRow], tolerance: float) -> str:
    shown = max((row for row in rows if row.within), key=lambda row: row.share, default=None)
    broken = min((row for row in rows if row.within is False), key=lambda row: row.share, default=None)
    unsure = [row for row in rows if row.within is None]
    times = collections.Counter(row.share for row in rows)

    def named(row: ShareRow) -> str:
        """The share, with its arm where several arms have it."""
        return f"{row.share:.0%}" + (f" (arm {row.arm})" if times[row.share] > 1 else "")

    at_top = shown is not None and shown.share == max(times)
    if shown is None:
        words = f"no share is shown to stay within {tolerance:g}"
    elif at_top:
        words = f"the largest share that was run, {named(shown)}, stays within {tolerance:g}; a larger one was not tried"
    else:
        words = f"a share of {named(shown)} is shown to stay within {tolerance:g}"
    if broken is not None:
        words += f"; {named(broken)} exceeds it"
    if unsure and not at_top:
        words += f"; the data cannot tell for {', '.join(map(named, unsure))}"
    return f"{words[0].upper()}{words[1:]}."


def _fitted_share(fitted: Fitted, tolerance: float, confidence: float) -> str:
    """The largest share by the D-CPT form at the largest budget."""

    def target(searched: Floats, design: Floats) -> Floats:
        base = design[..., 0, 2]
        grid = np.stack([np.ones(len(_SHARES)), 1 - _SHARES], axis=-1)
        excess = np.exp(MIX.log_loss(searched, grid)) - (base + tolerance)[..., None]
        beyond = excess > 0
        first = beyond.argmax(axis=-1)
        before = np.maximum(first - 1, 0)
        low, high = (np.take_along_axis(excess, place[..., None], -1)[..., 0] for place in (before, first))
        part = np.clip(-low / np.where(high > low, high - low, 1.0), 0, 1)
        share: Floats = np.where(beyond.any(axis=-1), _SHARES[before] + part * (_SHARES[first] - _SHARES[before]), 1.0)
        return share

    if fitted.curve is None:
        return ""
    spread = spread_of(fitted.curve, target, confidence)
    low, high = (float(np.clip(end, 0, 1)) for end in spread.bounds())
    if high - low == 1:
        return "By the D-CPT form the largest share cannot be told."
    found = f"By the D-CPT form the largest share is {spread.value:.0%} ({low:.0%} to {high:.0%})"
    return f"{found}; its gamma and epsilon are not determined."


def _options(most: Ladder, own: Sequence[Ladder], curves: Curves, flops: float, confidence: float) -> list[SpendingOption]:
    others = [one for one in own if one is not most and (one.arm == most.arm or one.model == most.model)]
    # Bonferroni: each is compared with more tokens, and the best of them is named.
    joint = 1 - (1 - confidence) / max(len(others), 1)
    first, *losses = (_predictions(one, curves, flops, (confidence, joint)) for one in (most, *others))
    options = [_option("more tokens", most, curves, flops, first)]
    for one, loss in zip(others, losses, strict=True):
        option = _option("another size" if one.arm == most.arm else "other data", one, curves, flops, loss)
        if first and loss:
            shown, sure = (_against(ours, theirs) for ours, theirs in zip(loss, first, strict=True))
            better = prefer(sure) if _enough_subsets(len(others), confidence) else None
            option = option.model_copy(update={"against": shown, "better": better})
        options.append(option)
    for kind, what in (("another size", "a second model"), ("other data", "a second domain arm, with cleaner text")):
        if not any(option.kind == kind for option in options):
            options.append(
                SpendingOption(
                    kind=kind, model="", arm="", tokens=None, loss=None, against=None,
                    missing=f"not measured: the study needs {what}",
                )
            )  # fmt: skip
    return options


def _predictions(ladder: Ladder, curves: Curves, flops: float, levels: Sequence[float]) -> list[Spread]:
    """The loss that this compute buys, at each level; empty if its curve does not reach so far."""
    curve, tokens = _of(ladder, curves).curve, flops / ladder.flops_per_token
    if curve is None or _unreached(ladder, curves, tokens):
        return []
    found = {level: predicted(curve, ladder, loss_at(tokens), level) for level in dict.fromkeys(levels)}
    return [found[level] for level in levels]


def _unreached(ladder: Ladder, curves: Curves, tokens: float) -> str:
    """Why there is no prediction at a number of tokens; empty if there is one."""
    times = tokens / float(ladder.tokens.max())
    beyond = f"{times:.0f} times its largest budget is too far to predict" if times > REACH else ""
    return _of(ladder, curves).record.refused or beyond


def _option(kind: Kind, ladder: Ladder, curves: Curves, flops: float, losses: Sequence[Spread]) -> SpendingOption:
    tokens = flops / ladder.flops_per_token
    loss = estimated_spread("loss", losses[0]) if losses else None
    missing = _unreached(ladder, curves, tokens)
    return SpendingOption(
        kind=kind, model=ladder.model, arm=ladder.arm, tokens=tokens, loss=loss, against=None, missing=missing
    )


def _against(ours: Spread, theirs: Spread) -> Estimated | None:
    """The loss of an option less that of more tokens; None if they have not the same documents."""
    return estimated_spread("difference", ours.minus(theirs)) if len(ours.subsets) == len(theirs.subsets) else None


def _enough_subsets(others: int, confidence: float) -> bool:
    """Whether the subsets of the documents reach the level at which so many options are judged together."""
    return (1 - confidence) / max(others, 1) >= 2 / (SUBSETS + 1)


def _spending_words(options: Sequence[SpendingOption], *, still_helps: bool, confidence: float) -> str:
    """The answer.

    Args:
        options: More tokens first.
        still_helps: Whether the verdict is that the last tokens that were run bought something.
        confidence: Level at which all options are judged together.
    """
    first, others = options[0], [option for option in options[1:] if option.against is not None]
    unknown = [f"{option.model}, arm {option.arm}" for option in options[1:] if option.model and option.against is None]
    if first.loss is None:
        return f"The data cannot tell: {first.missing}."
    if not others:
        return "The data cannot tell: only more tokens of the same text can be predicted, and nothing stands beside them."
    number = sum(bool(option.model) for option in options[1:])
    if not _enough_subsets(number, confidence):
        together = f"{number} options together" if number > 1 else "one option"
        return f"The data cannot tell: {SUBSETS} subsets of the documents are too few to judge {together} at this level."
    better = [option for option in others if option.better]
    if better:
        best = min(better, key=lambda option: option.against.value if option.against else 0.0)
        return f"{best.kind.capitalize()} ({best.model}, arm {best.arm}) is predicted to end lower than more tokens."
    if any(option.better is None for option in others):
        return "The data cannot tell: the interval of the difference holds zero, at the level of all options together."
    if not still_helps:
        what = "all others that can be predicted" if unknown else "all others"
        return f"The data cannot tell: {what} are predicted to end higher, but the last tokens bought nothing measurable."
    words = "More tokens of the same text are predicted to end lower than every other option that was run"
    return f"{words} and can be predicted, which {'; '.join(unknown)} cannot." if unknown else f"{words}."
