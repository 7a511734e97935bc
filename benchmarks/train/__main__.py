"""Training speed, side by side in one run: ours against a bare torch loop, ours inside Ray Train, and Hugging Face's Trainer.

Run by `make bench-train` (`QUICK=1`: few steps); writes `benchmarks/results/train.json`. Our side is `cpt-ray train` as a user
runs it. The two sides of a ratio are processes that take turns of a few steps (`turns.py`), with the same allocator settings,
on the same rows of license text in the same order with documents isolated, at the same learning rates; losses are compared step
by step, to ensure that both sides do the same work. The first steps of each process and of each turn are excluded. A ratio is
the median over pairs of the same step; all steps and their CPU seconds are in `raw`.

`--device cuda` measures the same at rows of 2,048 tokens on a GPU, whole processes in turns, and a table of ZeRO stage, offload
and checkpointing. That part HAS NOT RUN YET: it was written on a machine without a GPU.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure.claims import POSITIVE, SHARE, Claim
from benchmarks.measure.parts import Parts, measure_parts, parsed, part_parser
from benchmarks.measure.turns import TURN_STEPS
from benchmarks.train.peers import PEAK_FLOPS, PEAK_SIZE
from benchmarks.train.runs import Bench, Measured, Shape, Trainer, measure_alone, measure_in_turns, ratio, require_equal_work
from cpt_ray.config.load import load_study
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.ray_runtime import worker_environment
from cpt_ray.records import RunAttempt, RunRecord, StepMetrics
from cpt_ray.train.monitor.metrics import read_metrics
from cpt_ray.train.runs.specs import plan_runs, tokens_paid

STUDY = Path(__file__).with_name("train.yaml")
ROOT = Path(__file__).parents[2] / "runs" / "bench-train"
TWO, THREE = "ds_configs/zero2_bf16.json", "ds_configs/zero3_bf16.json"


class Cpu:
    """The parts that need no GPU; shared measurements are made once."""

    def __init__(self, bench: Bench, *, steps: int) -> None:
        self.bench = bench
        self.short = Shape(length=512, rows=4, micro_rows=4, warmup=2, steps=steps)
        self.long = Shape(length=2048, rows=2, micro_rows=1, warmup=2, steps=steps)
        self.rows = f"{self.short.rows} rows of {self.short.length} tokens a step, bf16, one worker with both cores"

    @functools.cached_property
    def alone(self) -> Measured:
        """ZeRO-2, running alone."""
        self.bench.prepare(self.short)
        return measure_alone(self.bench.ours("zero2", self.short, deepspeed=TWO), self.short)

    def speed(self) -> list[Claim]:
        """One process alone: speed, data wait, checkpoint stall."""
        value = self.short.slots / self.alone.median_s
        stalled = self.bench.ours("stall", self.short, deepspeed=TWO, extra=(half_way_checkpoint(self.short),))
        return [
            Claim(
                id="train.tokens_per_second", possible=POSITIVE,
                claim=f"ZeRO-2, {self.rows}", value=value, unit="tokens/s", raw=self.alone.raw()
            ),
            *_share_claims(self.bench, self.alone, measure_alone(stalled, self.short)),
        ]  # fmt: skip

    def bare(self) -> list[Claim]:
        """ZeRO-2 versus a bare torch loop."""
        peer = self._peer("bare")
        pair = _pair(self.bench.ours("zero2", self.short, deepspeed=TWO), peer, self.short)
        against = "a bare torch loop, same rows, loss and optimizer"
        return [_ratio_claim("bare_ratio", f"ZeRO-2, {self.rows}", pair, ">= 0.95", against)]

    def peak(self) -> list[Claim]:
        """ZeRO-2 versus a plain matrix product."""
        peer = self._peer("peak")
        ours, products = _pair(self.bench.ours("zero2", self.short, deepspeed=TWO), peer, self.short)
        return [_peak_claim(ours, products, self.rows)]

    def zero3(self) -> list[Claim]:
        """ZeRO-3 versus a bare torch loop."""
        peer = self._peer("bare")
        pair = _pair(self.bench.ours("zero3", self.short, deepspeed=THREE), peer, self.short)
        return [_ratio_claim("zero3_bare_ratio", f"ZeRO-3, {self.rows}", pair, ">= 0.85", "the same bare loop")]

    def _peer(self, name: str) -> Trainer:
        return self.bench.peer(name, self.short, like=self.alone, deepspeed=TWO)

    def ray(self) -> list[Claim]:
        """Inside Ray Train versus outside it."""
        outside = Bench(self.bench.study, self.bench.root / "outside", self.bench.environment)  # a study has one driver
        for one in (self.bench, outside):
            one.prepare(self.short)
        inside = self.bench.ours("ray", self.short, deepspeed=TWO, kind="ray")
        pair = _pair(inside, outside.ours("zero2", self.short, deepspeed=TWO), self.short)
        return [_ratio_claim("ray_ratio", f"inside Ray Train, ZeRO-2, {self.rows}", pair, ">= 0.95", "the same outside Ray")]

    def hf(self) -> list[Claim]:
        """ZeRO-2 versus Hugging Face's Trainer, on long rows."""
        self.bench.prepare(self.long)
        alone = measure_alone(self.bench.ours("zero2", self.long, deepspeed=TWO), self.long)
        peer = self.bench.peer("hf", self.long, like=alone, deepspeed=TWO)
        pair = _pair(self.bench.ours("zero2", self.long, deepspeed=TWO), peer, self.long)
        rows = f"{self.long.rows} rows of {self.long.length} tokens a step, documents isolated in both"
        against = "HF Trainer + DeepSpeed ZeRO-2, its own packed mask, chunked loss, fused AdamW"
        return [_ratio_claim("hf_trainer_ratio", f"ZeRO-2, {rows}", pair, ">= 1.3", against)]

    def arithmetic(self) -> list[Claim]:
        """Claims that need no training."""
        return _arithmetic_claims(self.bench)


PARTS: Parts[Cpu] = {
    "speed": Cpu.speed,
    "bare": Cpu.bare,
    "peak": Cpu.peak,
    "zero3": Cpu.zero3,
    "ray": Cpu.ray,
    "hf": Cpu.hf,
    "arithmetic": Cpu.arithmetic,
}


def _pair(ours: Trainer, other: Trainer, shape: Shape) -> tuple[Measured, Measured]:
    found = measure_in_turns(ours, other, shape)
    print(", ".join(f"{one.name} {one.median_s:.2f} s a step" for one in found), f"ratio {ratio(*found)[0]:.3f}", flush=True)
    return found


def _stderr(values: Sequence[float]) -> float:
    """Standard error of the mean; one value says nothing of its spread, so that nothing can be judged by it."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.inf


def _ratio_claim(name: str, text: str, pair: tuple[Measured, Measured], target: str, against: str) -> Claim:
    value, each = ratio(*pair)
    return Claim(
        id=f"train.{name}", possible=POSITIVE, claim=text, value=value, spread=_stderr(each), unit="ratio of tokens/s",
        work=(len(each), "turns"), target=target, compared_with=against,
        raw={"steps": each, "ours": pair[0].raw(), "other": pair[1].raw()},
    )  # fmt: skip


def _peak_claim(ours: Measured, products: Measured, rows: str) -> Claim:
    flops = [step.flops for step in _steps(ours)]
    pairs = zip(flops, ours.step_s, products.step_s, strict=True)
    shares = [(model / step_s) / (PEAK_FLOPS / product_s) for model, step_s, product_s in pairs]
    return Claim(
        id="train.peak_share", possible=SHARE,
                claim=f"model FLOPs a second over those of a plain bf16 matrix product, ZeRO-2, {rows}",
        value=statistics.median(shares), unit="share", target=">= 0.4", spread=_stderr(shares), work=(len(shares), "turns"),
        compared_with=f"products of {PEAK_SIZE} x {PEAK_SIZE} matrices for seconds on both cores, in turns with the steps",
        raw={"steps": [round(share, 4) for share in shares], "ours": ours.raw(), "products": products.raw()},
    )  # fmt: skip


def _share_claims(bench: Bench, ours: Measured, stalled: Measured) -> list[Claim]:
    steps = _steps(ours)
    waits = [step.data_wait_s / step.step_s for step in steps]
    speed = statistics.median([step.tokens_per_s for step in steps])
    stall_s, every = _record(stalled).training.cost.checkpoint_s, load_study(bench.study, bench.common).train.checkpoint_every
    return [
        Claim(
            id="train.data_wait_share", possible=SHARE,
                claim=f"waiting for the batch, of a step; attention by {_attempt(ours).kernel}",
            value=statistics.median(waits), unit="share", target="< 0.01", raw=[round(wait, 6) for wait in waits],
        ),
        Claim(
            id="train.checkpoint_stall_share", possible=SHARE,
                claim=f"training stands still for a checkpoint, every {every:,} tokens",
            value=stall_s / (every / speed + stall_s), unit="share of wall time", target="< 0.02",
            raw={"stall_s": stall_s, "tokens_per_s": speed},
        ),
    ]  # fmt: skip


def half_way_checkpoint(shape: Shape) -> str:
    """The override that makes a run save one checkpoint halfway."""
    return f"train.checkpoint_every={shape.budget // 2 + 1}"


def _arithmetic_claims(bench: Bench) -> list[Claim]:
    from benchmarks.train.order import position_seconds

    largest = 1_000_000_000
    budgets = [largest // 4, largest // 2, largest]
    config = load_study(bench.study, (*bench.common, f"train.budgets={budgets}", "train.schedule.cooldown_share=0.2"))
    paid = tokens_paid(plan_runs(config))
    return [
        Claim(
            id="train.position_seconds", possible=POSITIVE,
                claim="from an empty process to the batch at position 10^9 of 10^6 shards",
            value=position_seconds(), unit="s", target="<= 1.0",
        ),
        Claim(
            id="train.tokens_paid_ratio", possible=(1.0, 3.0),
                claim="budgets D/4, D/2 and D with a cooldown of a fifth: tokens trained, trunk once",
            value=paid / largest, unit="ratio to D", target="<= 1.15", compared_with=f"{sum(budgets) / largest} for three runs",
            raw={"budgets": budgets, "tokens_paid": paid},
        ),
    ]  # fmt: skip


def gpu_claims(bench: Bench, *, steps: int, rounds: int = 3) -> list[Claim]:
    """One GPU, rows of 2,048 tokens. HAS NOT RUN YET."""
    shape = Shape(length=2048, rows=32, micro_rows=16, warmup=10, steps=4 * steps)
    one, extra = "ds_configs/zero1_bf16.json", ("runtime.gpus_per_worker=1",)
    bench.prepare(shape)
    seen: dict[str, list[Measured]] = {"ours": [], "bare": [], "hf": []}
    for _ in range(rounds):
        ours = measure_alone(bench.ours("ours", shape, deepspeed=one, extra=extra), shape)
        seen["ours"].append(ours)
        for name in ("bare", "hf"):
            seen[name].append(measure_alone(bench.peer(name, shape, like=ours, deepspeed=one), shape))
            require_equal_work({"ours": ours.losses, name: seen[name][-1].losses})
    table = []
    for stage, offload, checkpointing in itertools.product((1, 2, 3), (False, True), (False, True)):
        if offload and stage < 3:
            continue  # ds_configs has no such file
        name = f"zero{stage}_bf16{'_offload_cpu' if offload else ''}"
        switch = f"train.gradient_checkpointing={str(checkpointing).lower()}"
        run = measure_alone(bench.ours(name, shape, deepspeed=f"ds_configs/{name}.json", extra=(*extra, switch)), shape)
        peak = _record(run).training.cost.device_peak_bytes
        table.append(
            {
                "zero_stage": stage, "offload": offload, "checkpointing": checkpointing,
                "tokens_per_s": round(shape.slots / run.median_s), "peak_gib": peak / 2**30 if peak else None,
            }
        )  # fmt: skip
        print(table[-1], flush=True)
    raw = {name: [one.raw() for one in runs] for name, runs in seen.items()}
    medians = {name: [one.median_s for one in runs] for name, runs in seen.items()}
    speed = shape.slots / statistics.median(medians["ours"])

    def against(name: str) -> float:
        return statistics.median(b / a for a, b in zip(medians["ours"], medians[name], strict=True))

    text = f"ZeRO-1, {shape.rows} rows of {shape.length} tokens a step in micro-batches of {shape.micro_rows}, one GPU"
    return [
        Claim(
            id="train.gpu_tokens_per_second", possible=POSITIVE,
                claim=text, value=speed, unit="tokens/s", target=">= 310000",
            raw={"ours": raw["ours"], "table": table},
        ),
        Claim(
            id="train.gpu_bare_ratio", possible=POSITIVE,
                claim=text, value=against("bare"), unit="ratio of tokens/s",
            target=">= 0.97", compared_with="a bare torch loop, same rows, loss and optimizer", raw=raw,
        ),
        Claim(
            id="train.gpu_hf_trainer_ratio", possible=POSITIVE,
                claim=text, value=against("hf"), unit="ratio of tokens/s",
            target=">= 1.5", compared_with="HF Trainer + DeepSpeed, its own packed mask", raw=raw,
        ),
    ]  # fmt: skip


def _steps(measured: Measured) -> list[StepMetrics]:
    if measured.run is None:
        raise RuntimeError(f"{measured.name} is no run of ours")
    steps = read_metrics(measured.run)
    return [steps[number] for number in measured.numbers]


def _attempt(measured: Measured) -> RunAttempt:
    if measured.run is None:
        raise RuntimeError(f"{measured.name} is no run of ours")
    return RunAttempt.load(next((measured.run / "attempts").glob("attempt-*.json")))


def _record(measured: Measured) -> RunRecord:
    if measured.run is None:
        raise RuntimeError(f"{measured.name} is no run of ours")
    return RunRecord.load(measured.run / "run.json")


def main() -> None:
    """Measure, and write the claims of each part when it is done."""
    parser = part_parser(__doc__, PARTS, quick="one turn per side")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="a GPU has a part of its own")
    parser.add_argument("--steps", type=int, default=12, help="steps per side; two of three are measured")
    arguments = parsed(parser, PARTS)
    environment = {**os.environ, **worker_environment(RuntimeConfig(gpus_per_worker=float(arguments.device == "cuda")))}
    bench = Bench(STUDY, ROOT, environment)
    steps = TURN_STEPS if arguments.quick else arguments.steps
    if arguments.device == "cuda":
        arguments.parts = ["gpu"]
        measure_parts("train", {"gpu": functools.partial(gpu_claims, steps=steps)}, bench, arguments)
    else:
        measure_parts("train", PARTS, Cpu(bench, steps=steps), arguments)


if __name__ == "__main__":
    main()
