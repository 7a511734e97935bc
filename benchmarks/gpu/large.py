"""A model of 1.7B parameters on one device: ZeRO-3, with optimizer and parameters in host memory, and without.

Run by `run.sh` as `python -m benchmarks.gpu.large SHARDS OUT`: random weights, a few steps; tokens per second and peak memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.gpu.shapes import SMOLLM2_1700M, TINY_SHAPE
from benchmarks.gpu.speed import TINY, Load, clock, measure, open_engine, read_steps, start_group

LOAD = Load(rows=1, micro_batches=1, warmup=1, steps=2) if TINY else Load(rows=4, micro_batches=4, warmup=1, steps=3)
FILES = ("zero3_bf16.json", "zero3_bf16_offload_cpu.json")
"""The one with an operator to build comes last."""


def main() -> None:
    """Measure both files, and write after each."""
    shards, out = Path(sys.argv[1]), Path(sys.argv[2])
    start_group()
    data = read_steps(shards, LOAD)
    slots = LOAD.slots(len(data[0].rows[0].tokens))
    result = {}
    for name in FILES:

        def side(name: str = name) -> dict[str, object]:
            shape, length = TINY_SHAPE if TINY else SMOLLM2_1700M, len(data[0].rows[0].tokens)
            with open_engine(name, compiled=False, load=LOAD, length=length, shape=shape) as step:
                return clock(step, data, LOAD)

        result[name] = measure(name, side, slots)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
