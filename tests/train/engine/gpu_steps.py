"""Steps of an engine on a GPU, in a process of its own: other tests tell DeepSpeed, once per process, that there is none.

    python -m tests.train.engine.gpu_steps STAGE PRECISION ISOLATION FOLDER

Prints JSON. After a few steps, torch raises at every call that would wait for the device; outcomes are read a step late.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

os.environ["DS_ACCELERATOR"] = "cuda"

import torch

from cpt_ray.config.deepspeed import check_deepspeed
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.model.base import load_model
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.groups.process import require_process_group
from cpt_ray.train.order.batches import MicroBatch
from tests.evaluate.tiny import build_model, build_tokenizer

T, STEPS = 128, 6


def main() -> None:
    """Train and report."""
    stage, precision, isolation, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    torch.cuda.set_device(0)
    require_process_group()
    tokenizer = build_tokenizer()
    build_model(len(tokenizer)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    train = TrainConfig.model_validate(
        {
            "budgets": [1000],
            "learning_rate": 1e-3,
            "global_batch_size": 2,
            "precision": precision,
            "isolation": isolation,
            "deepspeed": "ds.json",
        }
    )
    engine = Engine(
        load_model(folder / "model", precision=precision),
        train=train,
        deepspeed=check_deepspeed({"zero_optimization": {"stage": stage, "overlap_comm": False}}, "ds.json"),
        accumulation_steps=2,
        device=torch.device("cuda", 0),
    )
    sys.stdout.write(json.dumps(watch(engine)) + "\n")


def watch(engine: Engine) -> dict[str, Any]:
    """Steps that may wait, steps that may not, a broken one, and one more."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(2):
        ids = torch.randint(1, 300, (T,), generator=generator)
        batches.append(MicroBatch(ids.pin_memory(), ids.roll(-1).pin_memory(), (T // 2, T // 4, T // 4)))
    read = [launch(engine, batches).read() for _ in range(3)]  # kernels are compiled, buffers made
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        late = launch(engine, batches)
        for _ in range(STEPS):
            outcome = launch(engine, batches)
            read.append(late.read())
            late = outcome
    finally:
        torch.cuda.set_sync_debug_mode("default")
    read.append(late.read())
    before = engine.whole_state()
    broken = launch(engine, batches, factor=math.nan).read()[1]
    after = engine.whole_state()
    return {
        "losses": [loss for loss, _ in read],
        "norms": [norm for _, norm in read],
        "broken": str(broken),
        "broken_changed_nothing": all(torch.equal(before[name], after[name]) for name in before),
        "next": launch(engine, batches).read(),
        "decides_on_device": type(engine._guard).__name__ == "DeviceStep",
    }


def launch(engine: Engine, batches: list[MicroBatch], *, factor: float = 1.0) -> Any:
    """One step on the same rows."""
    loss = engine.accumulate(batches, loss_tokens=2 * T)
    return engine.step(1e-3, loss * factor if factor != 1.0 else loss)


if __name__ == "__main__":
    main()
