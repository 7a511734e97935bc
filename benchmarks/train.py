"""Training speed, side by side in one run: ours against a bare torch loop, ours inside Ray Train, and Hugging Face's Trainer.

Run by `make bench-train` (`QUICK=1`: few steps, one round); writes `benchmarks/results/train.json`. What is measured as ours is
the command `cpt-ray train` as a user runs it, read back from the run's own metrics. Every measurement is a process of its own
with the same allocator settings, in turns (ours, bare, ours, bare), on the same rows of licence text in the same order with
documents isolated, at the same learning rates; losses are compared step by step, so that equal work is compared. The first
steps of each process are left out. A ratio is the median over rounds of (other's median step) / (our median step); all single
steps are in `raw`, and the load of the machine before each process.

`--device cuda` measures the same at rows of 2,048 tokens on a GPU, and a table of ZeRO stage x offload x checkpointing. That
part HAS NOT RUN YET: it was written on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
from pathlib import Path

from record import Claim, write_results
from train_runs import Bench, Measured, Shape, ratio, require_equal_work

from cpt_ray.config.load import load_study
from cpt_ray.config.runtime import RuntimeConfig
from cpt_ray.edges.ray_runtime import worker_environment
from cpt_ray.records import RunAttempt, RunRecord
from cpt_ray.train.metrics import read_metrics
from cpt_ray.train.runs import plan_runs, tokens_paid

STUDY = Path(__file__).with_name("train.yaml")
ROOT = Path(__file__).parents[1] / "runs" / "bench-train"


def cpu_claims(bench: Bench, *, quick: bool, rounds: int) -> list[Claim]:
    """Everything that needs no GPU."""
    warmup, steps = (1, 2) if quick else (2, 6)
    short = Shape(length=512, rows=8, micro_rows=8, warmup=warmup, steps=steps)
    long = Shape(length=2048, rows=2, micro_rows=2, warmup=warmup, steps=max(2, steps - 2))
    two, three = "ds_configs/zero2_bf16.json", "ds_configs/zero3_bf16.json"
    bench.prepare(short.length)
    seen: dict[str, list[Measured]] = {name: [] for name in ("zero2", "bare", "zero3", "ray", "zero2_long", "hf")}

    def keep(measured: Measured, name: str) -> Measured:
        seen[name].append(measured)
        print(f"{name:10s} {measured.median_s:7.2f} s a step  load {measured.load:.1f}", flush=True)
        return measured

    for number in range(rounds):
        print(f"round {number + 1} of {rounds}: rows of {short.length} tokens", flush=True)
        ours = keep(bench.ours("zero2", short, deepspeed=two), "zero2")
        keep(bench.peer("bare", short, like=ours, deepspeed=two), "bare")
        other = keep(bench.ours("zero3", short, deepspeed=three), "zero3")
        inside = keep(bench.ours("ray", short, deepspeed=two, kind="ray"), "ray")
        require_equal_work({one.name: one.losses for one in (ours, other, inside)})
    bench.prepare(long.length)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}: rows of {long.length} tokens", flush=True)
        ours = keep(bench.ours("zero2_long", long, deepspeed=two), "zero2_long")
        keep(bench.peer("hf", long, like=ours, deepspeed=two), "hf")
    return [*_speed_claims(seen, short, long), *_share_claims(bench, seen["zero2"], short), *_arithmetic_claims(bench)]


def _speed_claims(seen: dict[str, list[Measured]], short: Shape, long: Shape) -> list[Claim]:
    raw = {name: [one.raw() for one in runs] for name, runs in seen.items()}
    ours, bare = seen["zero2"], seen["bare"]
    rows = f"{short.rows} rows of {short.length} tokens a step, bf16, one worker with both cores"

    def claim(name: str, text: str, a: str, b: str, target: str | None, against: str) -> Claim:
        value, each = ratio(seen[a], seen[b])
        return Claim(
            id=f"train.{name}", claim=text, value=value, unit="ratio of tokens/s", target=target, compared_with=against,
            raw={"rounds": each, a: raw[a], b: raw[b]},
        )  # fmt: skip

    speed = short.slots / statistics.median([one.median_s for one in ours])
    peaks = [step.mfu for one in ours if one.run for step in read_metrics(one.run)[short.warmup :] if step.mfu is not None]
    return [
        Claim(id="train.tokens_per_second", claim=f"ZeRO-2, {rows}", value=speed, unit="tokens/s", raw=raw["zero2"]),
        claim("bare_ratio", f"ZeRO-2, {rows}", "zero2", "bare", ">= 0.95", "a bare torch loop, same rows, loss and optimizer"),
        claim("zero3_bare_ratio", f"ZeRO-3, {rows}", "zero3", "bare", ">= 0.85", "the same bare loop"),
        claim("ray_ratio", f"inside Ray Train, ZeRO-2, {rows}", "ray", "zero2", ">= 0.95", "the same command without Ray"),
        Claim(
            id="train.peak_share", claim=f"model FLOPs over the measured bf16 matrix product, ZeRO-2, {rows}",
            value=statistics.median(peaks), unit="share", target=">= 0.4",
            compared_with="a product of 1536 x 1536 matrices in the same process",
            raw={
                "steps": [round(peak, 4) for peak in peaks],
                "peak_flops_per_s": [_attempt(one).peak_flops_per_s for one in ours],
                "bare_step_s": [one.median_s for one in bare],
            },
        ),
        claim(
            "hf_trainer_ratio", f"ZeRO-2, {long.rows} rows of {long.length} tokens a step, documents isolated in both",
            "zero2_long", "hf", ">= 1.3", "HF Trainer + DeepSpeed ZeRO-2, its own packed mask, chunked loss, fused AdamW",
        ),
    ]  # fmt: skip


def _share_claims(bench: Bench, ours: list[Measured], shape: Shape) -> list[Claim]:
    steps = [step for one in ours if one.run for step in read_metrics(one.run)[shape.warmup :]]
    waits = [step.data_wait_s / step.step_s for step in steps]
    kernels = {_attempt(one).kernel for one in ours}
    speed = statistics.median([step.tokens_per_s for step in steps])
    config = load_study(bench.study, bench.common)
    stall = checkpoint_stall(bench, shape)
    every = config.train.checkpoint_every
    return [
        Claim(
            id="train.data_wait_share", claim=f"waiting for the batch, of a step; attention by {', '.join(sorted(kernels))}",
            value=statistics.median(waits), unit="share", target="< 0.01", raw=[round(wait, 6) for wait in waits],
        ),
        Claim(
            id="train.checkpoint_stall_share", claim=f"training stands still for a checkpoint, every {every:,} tokens",
            value=stall / (every / speed + stall), unit="share of wall time", target="< 0.02",
            raw={"stall_s": stall, "tokens_per_s": speed},
        ),
    ]  # fmt: skip


def checkpoint_stall(bench: Bench, shape: Shape) -> float:
    """Seconds that training stood still for the one checkpoint that a run makes half-way."""
    every = f"train.checkpoint_every={shape.budget // 2 + 1}"
    measured = bench.ours("stall", shape, deepspeed="ds_configs/zero2_bf16.json", extra=(every,))
    return _record(measured).checkpoint_s


def _arithmetic_claims(bench: Bench) -> list[Claim]:
    from order import position_seconds

    largest = 1_000_000_000
    budgets = [largest // 4, largest // 2, largest]
    config = load_study(bench.study, (*bench.common, f"train.budgets={budgets}", "train.schedule.cooldown_share=0.2"))
    paid = tokens_paid(plan_runs(config))
    return [
        Claim(
            id="train.position_seconds", claim="from an empty process to the batch at position 10^9 of 10^6 shards",
            value=position_seconds(), unit="s", target="<= 1.0",
        ),
        Claim(
            id="train.tokens_paid_ratio", claim="budgets D/4, D/2 and D with a cooldown of a fifth: tokens trained, trunk once",
            value=paid / largest, unit="ratio to D", target="<= 1.15", compared_with=f"{sum(budgets) / largest} for three runs",
            raw={"budgets": budgets, "tokens_paid": paid},
        ),
    ]  # fmt: skip


def gpu_claims(bench: Bench, *, quick: bool, rounds: int) -> list[Claim]:
    """One GPU, rows of 2,048 tokens. HAS NOT RUN YET."""
    warmup, steps = (3, 5) if quick else (10, 30)
    shape = Shape(length=2048, rows=32, micro_rows=16, warmup=warmup, steps=steps)
    one, extra = "ds_configs/zero1_bf16.json", ("runtime.gpus_per_worker=1",)
    bench.prepare(shape.length)
    seen: dict[str, list[Measured]] = {"ours": [], "bare": [], "hf": []}
    for _ in range(rounds):
        ours = bench.ours("ours", shape, deepspeed=one, extra=extra)
        seen["ours"].append(ours)
        seen["bare"].append(bench.peer("bare", shape, like=ours, deepspeed=one))
        seen["hf"].append(bench.peer("hf", shape, like=ours, deepspeed=one))
    table = []
    for stage, offload, checkpointing in itertools.product((1, 2, 3), (False, True), (False, True)):
        if offload and stage < 3:
            continue  # ds_configs has no such file
        name = f"zero{stage}_bf16{'_offload_cpu' if offload else ''}"
        run = bench.ours(
            name, shape, deepspeed=f"ds_configs/{name}.json",
            extra=(*extra, f"train.gradient_checkpointing={str(checkpointing).lower()}"),
        )  # fmt: skip
        peak = _record(run).device_peak_bytes
        table.append(
            {
                "zero_stage": stage, "offload": offload, "checkpointing": checkpointing,
                "tokens_per_s": round(shape.slots / run.median_s), "peak_gib": peak / 2**30 if peak else None,
            }
        )  # fmt: skip
        print(table[-1], flush=True)
    raw = {name: [one.raw() for one in runs] for name, runs in seen.items()}
    speed = shape.slots / statistics.median([one.median_s for one in seen["ours"]])
    text = f"ZeRO-1, {shape.rows} rows of {shape.length} tokens a step in micro-batches of {shape.micro_rows}, one GPU"
    return [
        Claim(
            id="train.gpu_tokens_per_second", claim=text, value=speed, unit="tokens/s", target=">= 310000",
            raw={"ours": raw["ours"], "table": table},
        ),
        Claim(
            id="train.gpu_bare_ratio", claim=text, value=ratio(seen["ours"], seen["bare"])[0], unit="ratio of tokens/s",
            target=">= 0.97", compared_with="a bare torch loop, same rows, loss and optimizer", raw=raw,
        ),
        Claim(
            id="train.gpu_hf_trainer_ratio", claim=text, value=ratio(seen["ours"], seen["hf"])[0], unit="ratio of tokens/s",
            target=">= 1.5", compared_with="HF Trainer + DeepSpeed, its own packed mask", raw=raw,
        ),
    ]  # fmt: skip


def _attempt(measured: Measured) -> RunAttempt:
    if measured.run is None:
        raise RuntimeError(f"{measured.name} is no run of ours")
    return RunAttempt.load(next((measured.run / "attempts").glob("attempt-*.json")))


def _record(measured: Measured) -> RunRecord:
    if measured.run is None:
        raise RuntimeError(f"{measured.name} is no run of ours")
    return RunRecord.load(measured.run / "run.json")


def main() -> None:
    """Measure and write the claims."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="few steps, one round; results go to a temporary folder")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured, in turns")
    arguments = parser.parse_args()
    environment = {**os.environ, **worker_environment(RuntimeConfig(gpus_per_worker=float(arguments.device == "cuda")))}
    logs = ROOT / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    bench = Bench(STUDY, ROOT, environment, logs)
    claims = (cpu_claims if arguments.device == "cpu" else gpu_claims)(
        bench, quick=arguments.quick, rounds=1 if arguments.quick else arguments.rounds
    )
    if arguments.quick:
        write_results("train", claims, folder=Path(tempfile.mkdtemp(prefix="bench-train-")))
    else:
        write_results("train", claims, merge=True)  # the other device's claims stay


if __name__ == "__main__":
    main()
