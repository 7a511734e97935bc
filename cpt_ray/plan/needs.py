"""How many tokens of each source a budget of an arm needs, and the largest budget that its sources allow.

Between config and `plan.budget`. In: an arm's mixtures, tokens per row and, once prepared, the tokens of one
pass over each source. Out: `SourceNeed` records. Weights count rows while budgets count tokens, so every mixture is converted
through the mean loss-bearing tokens per row of its sources. Guarantee: pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cpt_ray.config.budgets import cooldown_start
from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.records import SourceNeed
from cpt_ray.train.order.mixes import mixes_in_tokens
from cpt_ray.train.order.samples import PERIOD, quotas

ASSUMED_FILL_SHARE = 0.95
"""Share of row slots that bear loss, assumed until shards exist: best-fit packing leaves few slots empty, and the first
token of each segment has no label."""

_ENDLESS = 1 << 62


class Supply(NamedTuple):
    """The tokens that sources have."""

    per_row: Mapping[str, float]
    """Source name to mean loss-bearing tokens per row."""
    available: Mapping[str, int] | None
    """Source name to the loss-bearing tokens of one pass; None until prepared."""


class Stretch(NamedTuple):
    """The tokens from `start` to before `end`, drawn by one mixture."""

    start: int
    end: int
    weights: dict[str, float]
    """Source name to share of rows, in parts of 10,000 as the sample order draws them."""

    def rows(self, per_row: Mapping[str, float]) -> dict[str, float]:
        """Rows drawn of each source."""
        mean = sum(weight * per_row[source] for source, weight in self.weights.items())
        rows = (self.end - self.start) / mean if mean else 0.0
        return {source: rows * weight for source, weight in self.weights.items()}


class ArmMixtures(NamedTuple):
    """An arm and the cooldown's share of a budget; together they determine the mixture at every token."""

    name: str
    arm: ArmConfig
    cooldown_share: float

    def stretches(self, start: int, stop: int, budget: int | None) -> list[Stretch]:
        """The mixtures from `start` to `stop` tokens of a run to `budget`; None is a trunk, which has no cooldown."""
        cooldown = cooldown_start(budget, self.cooldown_share) if budget is not None else None
        mixes = mixes_in_tokens(self.arm, cooldown_start_tokens=cooldown)
        ends = [*(mix.tokens for mix in mixes[1:]), stop]
        stretches = []
        for (begin, mix), end in zip(mixes, ends, strict=True):
            if max(begin, start) < min(end, stop):
                weights = {source: part / PERIOD for source, part in quotas(mix).items()}
                stretches.append(Stretch(max(begin, start), min(end, stop), weights))
        return stretches


def tokens_per_row(
    sources: Sequence[str], sequence_length: int, *, available: Mapping[str, int] | None, rows: Mapping[str, int] | None
) -> dict[str, float]:
    """Mean loss-bearing tokens per row of each source: measured where tokens and rows are known, else assumed."""
    per_row = dict.fromkeys(sources, ASSUMED_FILL_SHARE * sequence_length)
    if available is not None and rows is not None:
        per_row.update({name: available.get(name, 0) / count for name, count in rows.items() if count})
    return per_row


def num_rows(stretches: Sequence[Stretch], per_row: Mapping[str, float]) -> float:
    """Rows drawn over all stretches."""
    return sum(sum(stretch.rows(per_row).values()) for stretch in stretches)


def mean_tokens_per_row(stretches: Sequence[Stretch], per_row: Mapping[str, float]) -> float:
    """Loss-bearing tokens per row, mean over all stretches."""
    rows = num_rows(stretches, per_row)
    return sum(stretch.end - stretch.start for stretch in stretches) / rows if rows else 0.0


def source_needs(mixtures: ArmMixtures, budget: int, supply: Supply) -> list[SourceNeed]:
    """The tokens that a budget of an arm needs from each of its sources."""
    rows: dict[str, float] = {}
    for stretch in mixtures.stretches(0, budget, budget):
        for source, drawn in stretch.rows(supply.per_row).items():
            rows[source] = rows.get(source, 0.0) + drawn
    arm, needs = mixtures.arm, []
    for source, drawn in rows.items():
        needed = round(drawn * supply.per_row[source])
        have = supply.available.get(source, 0) if supply.available is not None else None
        single = f".max_epochs_of.{source}" if source in arm.max_epochs_of else ".max_epochs"
        needs.append(
            SourceNeed(
                arm=mixtures.name,
                source=source,
                weight=drawn / sum(rows.values()) if drawn else 0.0,
                budget_tokens=budget,
                needed_tokens=needed,
                available_tokens=have,
                epochs=needed / have if have else None,
                max_epochs=arm.max_epochs_of.get(source, arm.max_epochs),
                key=f"arms.{mixtures.name}{single}",
            )
        )
    return needs


def largest_budget(mixtures: ArmMixtures, supply: Supply) -> int:
    """The largest budget that stays within the arm's maximum epochs, by bisection: needs grow with the budget."""

    def fits(budget: int) -> bool:
        needs = source_needs(mixtures, budget, supply)
        return all(need.needed_tokens <= need.max_epochs * (need.available_tokens or 0) for need in needs)

    low, high = 0, 1
    while fits(high) and high < _ENDLESS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
