"""Memory, time, money and the verdict of a plan, as printed."""

from __future__ import annotations

from cpt_ray.config.deepspeed import check_deepspeed
from cpt_ray.plan.memory import estimate_memory
from cpt_ray.records import DiskPlan, MemoryPlan, PlannedStage, TimePlan
from cpt_ray.report.text.cost import NO_HARDWARE, render_disk, render_memory, render_time, render_verdict
from tests.plan.planned import SHAPE, WORK, make_study

GIB = 1 << 30
TIME = TimePlan(
    hardware="h100", description="NVIDIA H100 SXM, 80 GB", device="GPU", workers=8,
    stages=(
        PlannedStage(stage="prepare", seconds=None, devices=0, basis="the size of the text is not known"),
        PlannedStage(stage="train", seconds=7200.0, devices=8, basis="profile"),
        PlannedStage(stage="evaluate", seconds=36.0, devices=2, basis="5 models, 800 tokens each, assumed"),
    ),
    tokens_per_s={"m": 2.67e6}, mfu={"m": 0.34}, run_seconds={"m-a-1": 7100.0}, basis="42 % of 989 TFLOP/s per card: a table",
    price_per_hour=2.5, currency="USD", price_date="2026-11-29",
)  # fmt: skip


def memory(room: int | None = None, **update: object) -> MemoryPlan:
    plan = estimate_memory(
        "m",
        shape=SHAPE.model_copy(update={"parameters": GIB}),
        deepspeed=check_deepspeed({}, "ds.json"),
        train=make_study().train,
        num_workers=2,
        work=WORK._replace(room_bytes=room),
    )
    return plan.model_copy(update=update)


def test_stages_have_their_time_devices_and_money_and_what_is_not_known_says_so():
    lines = [line.split() for line in render_time(TIME).splitlines()]
    assert lines[0] == ["Time", "on", "h100", "(NVIDIA", "H100", "SXM,", "80", "GB),", "8", "workers"]
    assert lines[1] == ["stage", "time", "GPUs", "GPU", "hours", "money,", "USD", "rests", "on"]
    assert lines[2][:5] == ["prepare", "?", "0", "?", "?"]
    assert lines[3] == ["train", "2", "h", "00", "min", "8", "16.00", "40.00", "profile"]
    assert " ".join(lines[5]) == "all 2 h 01 min 16.02 40.05 without prepare, whose time is not known"
    assert "Training: m 2.67M tokens/s (34 % of the peak)" in render_time(TIME)
    assert "Price: 2.5 USD per GPU hour on 2026-11-29." in render_time(TIME)


def test_without_a_price_there_is_no_money_and_without_hardware_no_time():
    bare = TIME.model_copy(update={"price_per_hour": None})
    assert bare.money is None
    assert "money" not in render_time(bare)
    assert "Price" not in render_time(bare)
    assert render_time(None) == NO_HARDWARE


def test_memory_is_in_gib_part_by_part_and_called_an_estimate():
    text = render_memory([memory(32 * GIB, measured_bytes=GIB)])
    row = next(line.split() for line in text.splitlines() if line.startswith("m "))
    # States of 16 bytes per parameter at stage 0; the column `measured` is added to the peak.
    assert row[:7] == ["m", "1.07B", "0", "bf16", "2", "1", "16.00"]
    assert (row[12], row[14]) == ("+1.00", "32.00")
    assert float(row[13]) > 17
    assert "The parts are estimates" in text
    frozen = render_memory([memory(frozen_parameters=GIB // 2)])
    assert "m: 537M of 1.07B parameters are frozen" in frozen
    unknown = next(line.split() for line in frozen.splitlines() if line.startswith("m "))
    assert (unknown[12], unknown[14]) == ("-", "?")


def test_the_verdict_says_whether_it_fits_and_what_to_change_if_not():
    fits, fails, unknown = memory(32 * GIB), memory(8 * GIB), memory()
    assert render_verdict([fits], None, {}).startswith("fits: m needs 16.")
    assert "of 32.00 GiB per worker" in render_verdict([fits], None, {})
    assert render_verdict([unknown], None, {}).startswith("memory: m needs 16.")
    fix = {"m": (("train.lora={rank: 16, alpha: 32}", "train.micro_batch_size=1"), 4 * GIB)}
    said = render_verdict([fails], TIME, fix)
    assert "does not fit: m needs 16." in said
    assert "try: 'train.lora={rank: 16, alpha: 32}' train.micro_batch_size=1  (4.00 GiB)" in said
    assert said.endswith("takes: at least 2 h 01 min, 40.05 USD, without prepare, whose time is not known")
    known = TIME.model_copy(update={"stages": TIME.stages[1:]})
    assert render_verdict([fails], known, fix).endswith("takes: about 2 h 01 min, 40.05 USD")
    assert "no change was found that does" in render_verdict([fails], None, {"m": ((), 0)})


def test_disk_is_in_gb_part_by_part_and_requests_are_said_of_a_bucket_alone():
    plan = DiskPlan(
        bases_bytes=2e9, documents_bytes=None, shards_bytes=1.5e9, checkpoints_bytes=3e9, exports_bytes=4e9, scores_bytes=1e6,
        text_bytes=None,
    )  # fmt: skip
    text = render_disk(plan)
    assert text.splitlines()[2].split() == ["?", "?", "1.500", "2.000", "3.000", "4.000", "0.001", "10.501"]
    assert "Requests" not in text
    asked = render_disk(plan.model_copy(update={"requests": 7020.0}))
    assert "Requests to the bucket while runs train: about 7.02k, beside a few for each file" in asked
