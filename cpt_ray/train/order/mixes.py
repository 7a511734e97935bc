"""Which mixture applies from which position: an arm's weight schedule, converted from tokens to positions.

In: config and shard manifest. Out: the `SampleOrder` of a run; `plan` reads the same schedule in tokens.

The border rule. `arms.NAME.segments` are given in tokens, but the order of samples counts rows. A border in tokens becomes a
nominal position: the number of rows since the previous border is ceil(tokens since then / mean loss-bearing tokens per row of
the mixture in force), computed from the manifest in exact arithmetic. So it is a function of data and config, never of the run,
and a step may have seen a few more or fewer tokens when it gets there. `cooldown_mix` begins exactly where the learning rate
begins to fall: for a branch, at the position that its parent's checkpoint records; for an independent run, at the nominal
position. From there onward it overrides every segment. Before that position, a branch follows its trunk's order row for row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.records import DrawnSource, RunMix, RunSpec, ShardManifest
from cpt_ray.train.order.samples import PERIOD, MixAt, SampleOrder, quotas


class MixFrom(NamedTuple):
    """A mixture, and the nominal `tokens_seen` from which it applies."""

    tokens: int
    mix: Mapping[str, float]


def mixes_in_tokens(arm: ArmConfig, *, cooldown_start_tokens: int | None) -> list[MixFrom]:
    """An arm's mixtures, ascending; a `cooldown_mix` ends the others (None: there is no cooldown)."""
    mixes = [MixFrom(0, arm.mix), *(MixFrom(segment.from_tokens, segment.mix) for segment in arm.segments)]
    if arm.cooldown_mix is None or cooldown_start_tokens is None:
        return mixes
    return [*(mix for mix in mixes if mix.tokens < cooldown_start_tokens), MixFrom(cooldown_start_tokens, arm.cooldown_mix)]


def sample_order(
    arm: ArmConfig, spec: RunSpec, manifest: ShardManifest, *, window_rows: int | None, branch_position: int | None
) -> SampleOrder:
    """The order of samples of one run.

    Args:
        arm: The run's arm.
        spec: The run.
        manifest: The shards.
        window_rows: `train.shuffle_window`.
        branch_position: The position of the parent's checkpoint that the run starts from; None without a parent.

    Raises:
        ValueError: If a source that is drawn from has no rows.
    """
    names = {name for mix in arm.mixes().values() for name in mix}
    rows = {name: manifest.rows(name) for name in names}
    tokens_per_row = {name: Fraction(manifest.loss_tokens(name), rows[name]) for name in names if rows[name]}
    cooldown = spec.schedule.decay_start_tokens
    if branch_position is None:
        mixes = _positions(mixes_in_tokens(arm, cooldown_start_tokens=cooldown), tokens_per_row)
    else:
        # By position, not by tokens: a segment that the trunk entered before the branch is part of the history.
        mixes = _positions(mixes_in_tokens(arm, cooldown_start_tokens=None), tokens_per_row)
        if arm.cooldown_mix is not None and cooldown is not None:
            mixes = [mix for mix in mixes if mix.position < branch_position]
            mixes.append(MixAt(branch_position, arm.cooldown_mix))
    return SampleOrder(mixes, rows, spec.seed, window_rows=window_rows)


def realized_mixes(order: SampleOrder, position: int) -> tuple[RunMix, ...]:
    """The realized weights of each mixture of an order, over the rows before `position`."""
    starts = [start for start in order.starts if start <= position]
    return tuple(
        RunMix(first_position=start, rows=end - start, weights=order.realized(end, since=start))
        for start, end in zip(starts, [*starts[1:], position], strict=True)
        if end > start
    )


def drawn_sources(order: SampleOrder, position: int, manifest: ShardManifest) -> tuple[DrawnSource, ...]:
    """The rows of each source before `position`, and the name of the sequence that they begin.

    The sequence depends on seed, source and window, not on mixtures: arms of one seed share it for every source that both draw.
    """
    return tuple(
        DrawnSource(source=source, rows=rows, sequence=order.sequence(source, content=manifest.of_source(source).content))
        for source, rows in order.drawn(position).items()
        if rows
    )


def mean_tokens_per_row(mix: Mapping[str, float], tokens_per_row: Mapping[str, Fraction]) -> Fraction:
    """Mean loss-bearing tokens of the rows that a mixture draws."""
    return sum((Fraction(part, PERIOD) * tokens_per_row.get(name, 0) for name, part in quotas(mix).items()), Fraction(0))


def _positions(mixes: list[MixFrom], tokens_per_row: Mapping[str, Fraction]) -> list[MixAt]:
    placed = [MixAt(0, mixes[0].mix)]
    for before, after in itertools.pairwise(mixes):
        mean = mean_tokens_per_row(before.mix, tokens_per_row)
        rows = math.ceil((after.tokens - before.tokens) / mean) if mean else 0
        placed.append(MixAt(placed[-1].position + rows, after.mix))
    return placed
