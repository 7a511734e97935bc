"""The curves of a study: loss in tokens per ladder, power laws over compute and over size, the D-CPT form over arms.

In: `Ladder`s. Out: `Fitted`s. What a curve is asked for is a `Target`: the change at a number of tokens, the tokens that a
change takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from cpt_ray.compare.fits.fitted import Fitted, Subject, fit
from cpt_ray.compare.fits.forms import MIX, POWER, TOKENS
from cpt_ray.compare.fits.ladder import Ladder
from cpt_ray.compare.fits.spread import Curve, Scores, Spread, Target, linear_spread, spread_of
from cpt_ray.evaluate.intervals import Floats, t_quantile
from cpt_ray.records import CurvePoint

_BELOW_FIRST, _ABOVE_FIRST = 4, 13
"""Places of a drawn curve."""
FURTHEST = 1e4
"""Tokens beyond the largest budget, in multiples of it, from which on a loss counts as never reached."""


def fit_tokens(ladder: Ladder, *, confidence: float, seed: int) -> Fitted:
    """The token-scaling curve of a ladder; it is drawn where the scores bound all of it."""
    scores = Scores(
        design=np.stack([ladder.tokens, np.full(len(ladder.tokens), ladder.base)], axis=-1),
        losses=ladder.losses,
        seeds=ladder.seeds,
        subset_designs=np.stack(np.broadcast_arrays(ladder.tokens, ladder.subset_base[:, None]), axis=-1),
        subset_losses=ladder.subset_losses,
    )
    fitted = fit(TOKENS, _subject("tokens", ladder), scores, _points(ladder), confidence=confidence, seed=seed)
    if fitted.curve is None:
        return fitted
    drawn = tuple(_trace(fitted.curve, ladder, confidence))
    bounded = all(math.isfinite(place.low) and math.isfinite(place.high) for place in drawn)
    return Fitted(fitted.record.model_copy(update={"curve": drawn if bounded else ()}), fitted.curve)


def _trace(curve: Curve, ladder: Ladder, confidence: float) -> Iterator[CurvePoint]:
    """The curve from the base, which it passes through, to the largest budget."""
    first, last = float(ladder.tokens.min()), float(ladder.tokens.max())
    yield CurvePoint(tokens=0.0, bits_per_byte=ladder.base, low=ladder.base, high=ladder.base)
    # Even steps below the first budget and in logarithms above it, as the figure's axis has them.
    for tokens in (*np.linspace(0, first, _BELOW_FIRST + 1)[1:-1], *np.geomspace(first, last, _ABOVE_FIRST)):
        change = linear_spread(curve, change_at(float(tokens)), confidence)
        low, high = change.bounds()
        yield CurvePoint(
            tokens=float(tokens), bits_per_byte=ladder.base + change.value, low=ladder.base + low, high=ladder.base + high
        )


def fit_compute(ladder: Ladder, *, confidence: float, seed: int) -> Fitted:
    """A power law over a ladder's FLOPs: unlike the curve in tokens it has no floor, and so three points suffice."""
    return _power([ladder], [ladder.flops], "compute", _points(ladder), confidence=confidence, seed=seed)


def fit_sizes(ladders: Sequence[Ladder], *, confidence: float, seed: int) -> Fitted:
    """A power law over parameters: each model's largest budget, of one arm on one set; all sizes must be known."""
    ends = [largest(ladder) for ladder in ladders]
    sizes = [np.full(len(end.losses), float(end.parameters or 0)) for end in ends]
    return _power(ends, sizes, "size", np.concatenate(sizes), confidence=confidence, seed=seed)


def fit_mix(ladders: Sequence[Ladder], *, confidence: float, seed: int) -> Fitted | None:
    """The D-CPT form over arms with different shares of domain text; None where there are fewer than three shares.

    Args:
        ladders: Of one model on one set, which is domain text for all of these arms, or for none.
        confidence: Level of the intervals.
        seed: Of the starts.
    """
    known = [ladder for ladder in ladders if ladder.share is not None]
    if len({round(ladder.share or 0.0, 4) for ladder in known}) < 3:
        return None
    tokens = np.concatenate([ladder.tokens for ladder in known])
    own = [(ladder.share or 0.0) if ladder.role == "domain" else 1 - (ladder.share or 0.0) for ladder in known]
    shares = np.concatenate([np.full(len(ladder.tokens), share) for ladder, share in zip(known, own, strict=True)])
    base = np.concatenate([np.full(len(ladder.tokens), ladder.base) for ladder in known])
    scores = _scores(known, np.stack([tokens / tokens.max(), shares, base], axis=-1))
    # The base is not part of the form, but what a tolerance is measured from, on each subset its own.
    scores.subset_designs[..., 2] = known[0].subset_base[:, None]
    subject = _subject("mix", known[0])._replace(arm=None)
    budgets = np.concatenate([_points(ladder) for ladder in known])
    # A point is a budget of a share: both matter.
    return fit(MIX, subject, scores, budgets + shares, confidence=confidence, seed=seed)


def largest(ladder: Ladder) -> Ladder:
    """The scores of a ladder's largest budget."""
    kept = ladder.at(max(ladder.budgets))
    return Ladder(
        **{
            **ladder.__dict__,
            "seeds": tuple(ladder.seeds[place] for place in kept),
            "budgets": tuple(ladder.budgets[place] for place in kept),
            "tokens": ladder.tokens[kept],
            "flops": ladder.flops[kept],
            "losses": ladder.losses[kept],
            "subset_losses": ladder.subset_losses[:, kept],
        }
    )


def predicted(curve: Curve, ladder: Ladder, target: Target, confidence: float) -> Spread:
    """A prediction in tokens, over training at least as uncertain as the largest budget that was run.

    Where nothing happens, three parameters follow the noise of the runs, and the interval of the curve alone covers 85 to 92 %
    (benchmarks/results/stats.json); a budget that was run is known no better than its seeds agree.

    Args:
        curve: The ladder's curve in tokens.
        ladder: What it was fitted to.
        target: The change or the loss at a number of tokens.
        confidence: Level of the interval.
    """
    spread, ends = spread_of(curve, target, confidence), largest(ladder).losses
    if len(ends) < 2:
        return spread
    return spread.no_narrower_than(t_quantile(len(ends) - 1, confidence) * float(ends.std(ddof=1)) / math.sqrt(len(ends)))


def change_at(tokens: float) -> Target:
    """The change in loss against the base at a number of tokens: below 0 is a gain."""

    def target(searched: Floats, design: Floats) -> Floats:
        base = design[..., 0, 1]
        at = np.stack(np.broadcast_arrays(np.array([tokens]), base[..., None]), axis=-1)
        change: Floats = np.exp(TOKENS.log_loss(searched, at))[..., 0] - base
        return change

    return target


def loss_at(tokens: float) -> Target:
    """The loss at a number of tokens."""

    def target(searched: Floats, design: Floats) -> Floats:
        loss: Floats = change_at(tokens)(searched, design) + design[..., 0, 1]
        return loss

    return target


def log_tokens_to(change: float) -> Target:
    """Log of the tokens at which the loss has fallen by `change` since the base, the inverse of the curve."""

    def target(searched: Floats, design: Floats) -> Floats:
        floor, scale, power = (np.exp(searched[..., place]) for place in range(3))
        reachable = design[..., 0, 1] - floor
        most = np.log(FURTHEST * design[..., :, 0].max(axis=-1))
        left = 1 - change / np.where(reachable > change, reachable, np.inf)
        found = np.log(scale) + np.log(np.maximum(np.expm1(-np.log(left) / power), 1e-12))
        log_tokens: Floats = np.where(reachable > change, np.minimum(found, most), most)
        return log_tokens

    return target


def _power(
    ladders: Sequence[Ladder], x: Sequence[Floats], kind: str, points: Floats, *, confidence: float, seed: int
) -> Fitted:
    values = np.concatenate(x)
    subject = _subject(kind, ladders[0])
    if len(ladders) > 1:
        subject = subject._replace(model=None)
    design = (values / values.max() if values.max() > 0 else np.full(len(values), np.nan))[:, None]
    return fit(POWER, subject, _scores(ladders, design), points, confidence=confidence, seed=seed)


def _scores(ladders: Sequence[Ladder], design: Floats) -> Scores:
    subsets = np.concatenate([ladder.subset_losses for ladder in ladders], axis=1)
    return Scores(
        design=design,
        losses=np.concatenate([ladder.losses for ladder in ladders]),
        seeds=tuple(seed for ladder in ladders for seed in ladder.seeds),
        subset_designs=np.tile(design, (len(subsets), 1, 1)),
        subset_losses=subsets,
    )


def _points(ladder: Ladder) -> Floats:
    return np.array(ladder.budgets, dtype=np.float64)


def _subject(kind: str, ladder: Ladder) -> Subject:
    return Subject(kind, ladder.model, ladder.arm, ladder.set_name, ladder.role, ladder.documents)  # type: ignore[arg-type]
