"""An arm's weight schedule, from tokens to positions: borders depend on data and config, a cooldown on its checkpoint."""

from __future__ import annotations

from typing import Any

from cpt_ray.config.sections.prepare import ArmConfig
from cpt_ray.records import RateSchedule, RunMix, RunSpec, ShardEntry, ShardManifest, ShardTable
from cpt_ray.train.order.mixes import MixFrom, drawn_sources, mixes_in_tokens, realized_mixes, sample_order
from cpt_ray.train.order.samples import SampleOrder

LAW, NEWS, BOTH = {"law": 1.0}, {"news": 1.0}, {"law": 0.5, "news": 0.5}


def entry(source: str, rows: int, loss_tokens: int) -> ShardEntry:
    return ShardEntry(
        path=f"{source}.arrow", index_path="i", source=source, unit=source, sha256="0" * 64, size_bytes=1, rows=rows,
        documents=1, cut_documents=0, tokenizer_tokens=0, separator_tokens=0, tokens=0, segments=0, padding=0,
        loss_tokens=loss_tokens,
    )  # fmt: skip


MANIFEST = ShardManifest(
    format_version=2, sequence_length=10, vocabulary_size=9, token_dtype="uint16", separator_id=0, tokenizer_sha256="",
    shards=ShardTable.of([entry("law", 1000, 9000), entry("news", 300, 1000)]), reports=(), task_pids={},
)  # fmt: skip
"""Rows of law have 9 loss-bearing tokens, rows of news 3 1/3."""


def arm(**keys: Any) -> ArmConfig:
    return ArmConfig.model_validate({"role": "domain", "mix": LAW, **keys})


SEGMENTS = [{"from": 100, "mix": BOTH}, {"from": "1k", "mix": NEWS}]


def spec(kind: str, cooldown_start: int | None) -> RunSpec:
    schedule = RateSchedule(
        warmup_start_tokens=0, warmup_tokens=0, start_rate=0, peak_rate=1, decay_start_tokens=cooldown_start,
        decay_end_tokens=None if kind == "trunk" else 2000, decay_shape="linear", final_rate=0,
    )  # fmt: skip
    return RunSpec(
        name="r", kind=kind, model="m", arm="a", seed=0, budget_tokens=None if kind == "trunk" else 2000,
        parent="t" if kind == "cooldown" else None, start_tokens=0, stop_tokens=2000, schedule=schedule,
    )  # fmt: skip


def order(of: ArmConfig, run: RunSpec, branch_position: int | None = None) -> SampleOrder:
    return sample_order(of, run, MANIFEST, window_rows=None, branch_position=branch_position)


def test_the_cooldowns_mixture_ends_every_segment_from_its_start():
    schedule = arm(segments=SEGMENTS, cooldown_mix=NEWS)
    assert mixes_in_tokens(schedule, cooldown_start_tokens=900) == [MixFrom(0, LAW), MixFrom(100, BOTH), MixFrom(900, NEWS)]
    assert mixes_in_tokens(schedule, cooldown_start_tokens=None) == [MixFrom(0, LAW), MixFrom(100, BOTH), MixFrom(1000, NEWS)]
    assert mixes_in_tokens(schedule, cooldown_start_tokens=100) == [MixFrom(0, LAW), MixFrom(100, NEWS)]
    assert len(mixes_in_tokens(arm(segments=SEGMENTS), cooldown_start_tokens=900)) == 3


def test_a_border_in_tokens_is_the_row_at_which_they_are_due_by_the_manifest():
    # 100 tokens of law: 100 / 9 = 11.1, so 12 rows. 900 more of both: (9 + 10/3) / 2 = 37/6 per row: 145.9, so 146 rows.
    assert order(arm(segments=SEGMENTS), spec("trunk", None)).starts == (0, 12, 158)


def test_an_independent_run_cools_down_at_the_nominal_row():
    drawn = order(arm(cooldown_mix=NEWS), spec("independent", 1600))
    assert drawn.starts == (0, 178)  # 1600 / 9 = 177.8
    assert {i.source for i in drawn.batch(0, 178)} == {"law"}
    assert {i.source for i in drawn.batch(178, 50)} == {"news"}


def test_a_branch_cools_down_at_the_row_of_its_checkpoint_and_has_its_trunks_order_before():
    schedule = arm(segments=SEGMENTS, cooldown_mix=BOTH)
    trunk = order(schedule, spec("trunk", None))
    # By tokens, the branch leaves before the segment at 1000; by rows, the trunk has entered it, and drawn rows stay drawn.
    branch = order(schedule, spec("cooldown", 990), branch_position=170)
    assert branch.starts == (0, 12, 158, 170)
    assert branch.batch(0, 170) == trunk.batch(0, 170)
    assert branch.drawn(170) == trunk.drawn(170)
    assert branch.weights(170) == BOTH
    early = order(schedule, spec("cooldown", 990), branch_position=100)
    assert early.starts == (0, 12, 100)


def test_without_a_mixture_of_its_own_the_cooldown_goes_on_with_the_trunks():
    trunk, branch = (
        order(arm(segments=SEGMENTS), spec("trunk", None)),
        order(arm(segments=SEGMENTS), spec("cooldown", 990), 170),
    )
    assert branch.batch(0, 400) == trunk.batch(0, 400)


def test_what_came_of_each_mixture_is_counted_up_to_the_position_reached():
    schedule = order(arm(segments=SEGMENTS), spec("trunk", None))
    assert realized_mixes(schedule, 20) == (
        RunMix(first_position=0, rows=12, weights={"law": 1.0}),
        RunMix(first_position=12, rows=8, weights={"law": 0.5, "news": 0.5}),
    )
    assert realized_mixes(schedule, 12) == (RunMix(first_position=0, rows=12, weights={"law": 1.0}),)
    assert realized_mixes(schedule, 0) == ()


def rows_of(order: SampleOrder, source: str, positions: int) -> list[int]:
    return [row.row for row in order.batch(0, positions) if row.source == source]


def ordered(arm: ArmConfig, seed: int, manifest: ShardManifest = MANIFEST, window: int | None = None) -> SampleOrder:
    run = spec("independent", 1500).model_copy(update={"seed": seed})
    return sample_order(arm, run, manifest, window_rows=window, branch_position=None)


def test_arms_of_a_seed_draw_a_source_that_they_share_in_the_same_order_and_other_seeds_do_not():
    arms = [arm(mix={"law": 0.75, "news": 0.25}, segments=SEGMENTS), arm(mix=BOTH, cooldown_mix=NEWS), arm(mix=NEWS)]
    drawn = [rows_of(ordered(one, seed=3), "news", 400) for one in arms]
    shortest = min(map(len, drawn))
    assert shortest > 50
    assert len({tuple(rows[:shortest]) for rows in drawn}) == 1
    assert rows_of(ordered(arms[2], seed=4), "news", 400)[:shortest] != drawn[2][:shortest]


def test_a_sequence_has_the_same_name_exactly_where_its_rows_are_the_same():
    def names(order: SampleOrder, manifest: ShardManifest = MANIFEST) -> dict[str, str]:
        return {one.source: one.sequence for one in drawn_sources(order, 200, manifest)}

    mixed = names(ordered(arm(mix=BOTH), seed=3))
    assert names(ordered(arm(mix=NEWS), seed=3)) == {"news": mixed["news"]}
    assert mixed["law"] != mixed["news"]
    changed = MANIFEST.model_copy(
        update={"shards": ShardTable.of([entry("news", 300, 1000).model_copy(update={"sha256": "1" * 64})])}
    )
    others = [
        names(ordered(arm(mix=NEWS), seed=4)),
        names(ordered(arm(mix=NEWS), seed=3, window=50)),
        names(ordered(arm(mix=NEWS), seed=3, manifest=changed), changed),
    ]
    assert len({mixed["news"], *(other["news"] for other in others)}) == 4


def test_only_sources_that_were_drawn_are_counted_with_their_rows():
    order = ordered(arm(mix=LAW, segments=[{"from": 900, "mix": NEWS}]), seed=0)
    assert {one.source: one.rows for one in drawn_sources(order, 100, MANIFEST)} == {"law": 100}
    assert {one.source: one.rows for one in drawn_sources(order, 130, MANIFEST)} == {"law": 100, "news": 30}
