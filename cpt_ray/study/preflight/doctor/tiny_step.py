"""A training step in a process of its own: a tiny model through the real engine, checked to be finite.

In: a precision and what a DeepSpeed file holds, as arguments. Out: a line of JSON on stdout. It loads DeepSpeed's operators,
and builds them where they are missing; what fails here fails in every run.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from cpt_ray.config.deepspeed import DeepSpeedConfig, check_deepspeed
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.model.base import load_model
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.groups.process import require_process_group
from cpt_ray.train.order.batches import MicroBatch

_VOCABULARY, _LENGTH, _ROWS, _STEPS, _RATE = 512, 128, 2, 4, 1e-3
_PLAIN = {"bf16": {"enabled": "auto", "check_grad_overflow": False}, "zero_optimization": {"stage": 2, "overlap_comm": False}}


def try_steps(deepspeed: DeepSpeedConfig, precision: str) -> dict[str, object]:
    """Take four steps on the same random tokens.

    Args:
        deepspeed: How ZeRO splits the states.
        precision: `train.precision`.

    Returns:
        Seconds of building the engine and of the fastest step, the losses and gradient norms, and the device.
    """
    begun = time.monotonic()
    require_process_group()
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    train = TrainConfig.model_validate(
        {
            "budgets": (1_000_000,),
            "learning_rate": _RATE,
            "global_batch_size": _ROWS,
            "micro_batch_size": 1,
            "precision": precision,
            "deepspeed": "unused",
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(_write_model(Path(folder)), precision=train.precision)
    engine = Engine(model.to(device), train=train, deepspeed=deepspeed, accumulation_steps=_ROWS, device=device)
    built = time.monotonic()
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(_VOCABULARY, (_LENGTH,), generator=generator) for _ in range(_ROWS)]
    batches = [MicroBatch(ids, torch.cat([ids[1:], ids[:1]]), (_LENGTH,)) for ids in rows]
    seconds, outcomes = [], []
    for _ in range(_STEPS):
        started = time.monotonic()
        loss = engine.accumulate(batches, loss_tokens=_ROWS * _LENGTH)
        outcomes.append(engine.step(_RATE, loss).read())
        seconds.append(time.monotonic() - started)
    engine.close()
    return {
        "build_s": built - begun,
        "step_s": min(seconds),
        "losses": [loss for loss, _ in outcomes],
        "norms": [norm for _, norm in outcomes],
        "device": str(device),
        "zero_stage": deepspeed.zero_stage,
        "precision": precision,
    }


def _write_model(folder: Path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=_VOCABULARY,
        max_position_embeddings=_LENGTH,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def main(arguments: list[str]) -> None:
    """Run the process.

    Args:
        arguments: The precision, and the JSON of a DeepSpeed file if it is not the plain one.
    """
    precision, *given = arguments
    deepspeed = check_deepspeed(json.loads(given[0]) if given else _PLAIN, "ds.json")
    sys.stdout.write(json.dumps(try_steps(deepspeed, precision)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
