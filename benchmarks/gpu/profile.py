"""Ten steps of our engine under torch's profiler: which kernels take the time, and what the host waits for.

Run by `run.sh` as `python -m benchmarks.gpu.profile SHARDS OUT`. Out: seconds of device time by kernel, and the share of the
wall time in which the device had nothing to do.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.speed import DEVICE, LOAD, TINY, open_engine, read_steps, start_group, wait_for_device

STEPS = 2 if TINY else 10
KERNELS = 40


def main() -> None:
    """Profile, and write the table."""
    shards, out = Path(sys.argv[1]), Path(sys.argv[2])
    start_group()
    data = read_steps(shards, LOAD)
    with open_engine("zero1_bf16.json", compiled="auto", load=LOAD, length=len(data[0].rows[0].tokens)) as step:
        for one in data[: LOAD.warmup]:
            step(one)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if DEVICE.type == "cuda" else [])]
        with profile(activities=activities) as seen:
            wait_for_device()  # warm-up steps may still be queued
            started = time.perf_counter()
            for index in range(STEPS):
                step(data[LOAD.warmup + index % LOAD.steps])
            wait_for_device()
            wall_s = time.perf_counter() - started
    on_device = DEVICE.type == "cuda"
    events = [
        {
            "name": event.key[:120],
            "calls": event.count,
            "seconds": (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6,
        }
        for event in seen.key_averages()
        # On a GPU its kernels alone: an operator's entry has the time of the kernels that it launched.
        if not on_device or (event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation)
    ]
    busy_s = sum(event["seconds"] for event in events)
    result = {
        "steps": STEPS,
        "wall_s": wall_s,
        "busy_s": busy_s,
        "idle_share": max(0.0, 1 - busy_s / wall_s) if on_device else None,
        "kernels": sorted(events, key=lambda event: -event["seconds"])[:KERNELS],
    }
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for event in result["kernels"][:15]:
        print(f"{event['seconds']:8.4f} s  {event['calls']:6d} calls  {event['name']}")
    print(f"busy {busy_s:.3f} of {wall_s:.3f} s")


if __name__ == "__main__":
    main()
