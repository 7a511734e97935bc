"""What to do next: gain and forgetting at the next budget, the largest domain share, how to spend a multiple of the compute.

In: ladders, their curves, the measured differences. Out: records with intervals. Guarantee: where an interval holds both
answers, the answer is that the data cannot tell.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

from cpt_ray.compare.efficiency import Curves
from cpt_ray.compare.fits.curves import change_at, loss_at
from cpt_ray.compare.fits.fitted import Fitted, estimated, estimated_spread
from cpt_ray.compare.fits.forms import MIX
from cpt_ray.compare.fits.ladder import Ladder
from cpt_ray.compare.fits.spread import Spread, spread_of
from cpt_ray.evaluate.intervals import Floats
from cpt_ray.records import Delta, Estimated, Forecast, ShareAnswer, ShareRow, Spending, SpendingOption

FACTORS = (2.0, 4.0)
"""FLOPs of the next run, in multiples of the largest."""
REACH = 8.0
"""Predictions end at this multiple of a curve's largest budget: its interval does not cover the form being another beyond."""
_SHARES = np.linspace(0, 1, 201)


def forecasts(ladders: Sequence[Ladder], curves: Curves, factor: float, confidence: float) -> list[Forecast]:
    """The change that each curve predicts at `factor` times its largest budget."""
    found = []
    for ladder in ladders:
        fitted = _of(ladder, curves)
        tokens = factor * float(ladder.tokens.max())
        change = spread_of(fitted.curve, change_at(tokens), confidence) if fitted.curve is not None else None
        found.append(
            Forecast(
                model=ladder.model, arm=ladder.arm, set_name=ladder.set_name, role=ladder.role, tokens=tokens,
                change=estimated_spread("change", change) if change is not None else None, missing=fitted.record.refused,
            )
        )  # fmt: skip
    return found


def share_answers(
    ladders: Sequence[Ladder], deltas: Sequence[Delta], mixes: Sequence[Fitted], tolerance: float, confidence: float
) -> list[ShareAnswer]:
    """The largest domain share within the tolerance, for each model and each set that is not of the domain."""
    answers = []
    for model, set_name in dict.fromkeys((one.model, one.set_name) for one in ladders if one.role != "domain"):
        known = [one for one in ladders if (one.model, one.set_name) == (model, set_name) and one.share is not None]
        budget = max((b for one in known for b in one.budgets if _arms_at(known, b) > 1), default=None)
        if budget is None:
            continue
        rows = [_share_row(one, budget, deltas, tolerance) for one in known if budget in one.budgets]
        rows.sort(key=lambda row: row.share)
        fitted = next((one for one in mixes if (one.record.model, one.record.set_name) == (model, set_name)), None)
        answers.append(
            ShareAnswer(
                model=model, set_name=set_name, budget_tokens=budget, tolerance=tolerance, rows=tuple(rows),
                answer=_share_words(rows, tolerance),
                fitted=_fitted_share(fitted, tolerance, confidence) if fitted is not None else "",
            )
        )  # fmt: skip
    return answers


def spendings(ladders: Sequence[Ladder], curves: Curves, controls: frozenset[str], confidence: float) -> list[Spending]:
    """More tokens, another size or other data, for each domain set and multiple of the largest run's FLOPs."""
    found = []
    domain = [one for one in ladders if one.role == "domain" and one.arm not in controls and one.flops.min() > 0]
    for set_name in dict.fromkeys(one.set_name for one in domain):
        own = [one for one in domain if one.set_name == set_name]
        most = max(own, key=lambda one: float(one.flops.max()))
        for factor in FACTORS:
            flops = factor * float(most.flops.max())
            options = _options(most, own, curves, flops, confidence)
            found.append(
                Spending(set_name=set_name, factor=factor, flops=flops, options=tuple(options), answer=_spending_words(options))
            )
    return found


def _of(ladder: Ladder, curves: Curves) -> Fitted:
    return curves[ladder.model, ladder.arm, ladder.set_name]


def _arms_at(ladders: Sequence[Ladder], budget: int) -> int:
    return sum(budget in one.budgets for one in ladders)


def _share_row(ladder: Ladder, budget: int, deltas: Sequence[Delta], tolerance: float) -> ShareRow:
    """The row of an arm; its difference is the one that the verdict uses."""
    start = f"{ladder.model}-{ladder.arm}-{budget}"
    delta = next(
        (
            one
            for one in deltas
            if (one.set_name, one.measure) == (ladder.set_name, "bits_per_byte")
            and one.subject in (f"{start} (mean of {len(set(ladder.seeds))} seeds)", f"{start}-seed{ladder.seeds[0]}")
            and one.reference.endswith("-base")
        ),
        None,
    )
    change, within = None, None
    if delta is not None and delta.interval is not None:
        change = estimated("change", delta.difference, delta.interval.low, delta.interval.high)
        within = True if delta.interval.high <= tolerance else (False if delta.interval.low > tolerance else None)
    return ShareRow(arm=ladder.arm, share=ladder.share or 0.0, change=change, within=within)


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
    return f"By the D-CPT form the largest share is {spread.value:.0%} ({low:.0%} to {high:.0%})."


def _options(most: Ladder, own: Sequence[Ladder], curves: Curves, flops: float, confidence: float) -> list[SpendingOption]:
    first, base = _option("more tokens", most, curves, flops, None, confidence)
    options = [first]
    for one in own:
        if one is not most and (one.arm == most.arm or one.model == most.model):
            kind = "another size" if one.arm == most.arm else "other data"
            options.append(_option(kind, one, curves, flops, base, confidence)[0])
    for kind, what in (("another size", "a second model"), ("other data", "a second domain arm, with cleaner text")):
        if not any(option.kind == kind for option in options):
            options.append(
                SpendingOption(
                    kind=kind, model="", arm="", tokens=None, loss=None, against=None,
                    missing=f"not measured: the study needs {what}",
                )
            )  # fmt: skip
    return options


def _option(
    kind: str, ladder: Ladder, curves: Curves, flops: float, against: Spread | None, confidence: float
) -> tuple[SpendingOption, Spread | None]:
    fitted = _of(ladder, curves)
    tokens = flops / ladder.flops_per_token
    times, missing = tokens / float(ladder.tokens.max()), fitted.record.refused
    if times > REACH and not missing:
        missing = f"{times:.0f} times its largest budget is too far to predict"
    loss = spread_of(fitted.curve, loss_at(tokens), confidence) if fitted.curve is not None and not missing else None
    difference = None
    if loss is not None and against is not None and len(loss.subsets) == len(against.subsets):
        difference = estimated_spread("difference", loss.minus(against))
    option = SpendingOption(
        kind=kind, model=ladder.model, arm=ladder.arm, tokens=tokens,
        loss=estimated_spread("loss", loss) if loss is not None else None, against=difference, missing=missing,
    )  # fmt: skip
    return option, loss


def _spending_words(options: Sequence[SpendingOption]) -> str:
    first, others = options[0], [option for option in options[1:] if option.against is not None]
    if first.loss is None:
        return f"The data cannot tell: {first.missing}."
    if not others:
        return "The data cannot tell: only more tokens of the same text can be predicted, and nothing stands beside them."
    signs = {option.model + option.arm: _sign(option.against) for option in others}
    better = [option for option in others if signs[option.model + option.arm] < 0]
    if better:
        best = min(better, key=lambda option: option.against.value if option.against else 0.0)
        return f"{best.kind.capitalize()} ({best.model}, arm {best.arm}) is predicted to end lower than more tokens."
    if all(sign > 0 for sign in signs.values()):
        return "More tokens of the same text are predicted to end lower than every other option that was run."
    return "The data cannot tell: the interval of the difference holds zero."


def _sign(found: Estimated | None) -> int:
    return found.sign if found is not None else 0
