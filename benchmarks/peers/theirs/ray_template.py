"""The loop of Ray's own guide to DeepSpeed: `TorchTrainer`, `deepspeed.initialize`, a DataLoader over rows of padded text.

    python -m benchmarks.peers.theirs.ray_template SETTINGS.json

As the guide has it: `tokenizer(padding="max_length", truncation=True)` on each record, `torch.optim.AdamW`, the loss of the
model. Ours is its DeepSpeed JSON, and the CPU instead of GPUs. Counted are real tokens that bear loss: padding does too in the
guide, but is no text.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.theirs.settings import TrainSettings, append_step


def load_batches(settings: TrainSettings) -> Any:
    """A shuffled DataLoader of padded rows."""
    import ray.train.torch
    from datasets import load_dataset
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def encode(batch: dict[str, list[str]]) -> Any:
        return tokenizer(batch["text"], padding="max_length", max_length=settings.length, truncation=True)

    data = load_dataset("json", data_files=settings.text, split="train", cache_dir=f"{settings.out}/cache")
    rows = data.map(encode, batched=True, num_proc=1, keep_in_memory=True)
    rows.set_format(type="torch", columns=["input_ids", "attention_mask"])
    return ray.train.torch.prepare_data_loader(DataLoader(rows, batch_size=settings.rows, shuffle=True))


def train_loop(config: dict[str, Any]) -> None:
    """What each worker does."""
    import deepspeed
    import torch
    from transformers import AutoModelForCausalLM

    settings = TrainSettings(**config)
    torch.set_num_threads(settings.threads)
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings.deepspeed)
    batches, done = load_batches(settings), 0
    while done < settings.num_steps:
        for batch in batches:
            ids, mask = batch["input_ids"], batch["attention_mask"]
            loss = engine(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False).loss
            engine.backward(loss)
            engine.step()
            append_step(settings.steps, int(mask[:, 1:].sum()))
            done += 1
            if done == settings.num_steps:
                break
    engine.save_checkpoint(f"{settings.out}/checkpoint")


def main(path: str) -> None:
    """Start a private Ray, and train in one worker with all cores."""
    from dataclasses import asdict

    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    settings = TrainSettings.load(path)
    here = str(Path(__file__).parents[3])
    variables = {**settings.worker_environment, "PYTHONPATH": f"{here}:{os.environ.get('PYTHONPATH', '')}"}
    ray.init(address="local", num_cpus=settings.threads + 1, dashboard_host="127.0.0.1", runtime_env={"env_vars": variables})
    trainer = TorchTrainer(
        train_loop,
        train_loop_config=asdict(settings),
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": settings.threads}),
        run_config=RunConfig(storage_path=f"{settings.out}/ray", name="guide"),
    )
    trainer.fit()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
