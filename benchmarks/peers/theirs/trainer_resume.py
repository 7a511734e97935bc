"""Hugging Face's Trainer on a long run of tiny steps: train to a step and save, or resume there and take one more.

    python -m benchmarks.peers.theirs.trainer_resume train|resume|resume-streaming SETTINGS.json

The rows are a dataset on disk, shuffled by the Trainer. `resume` uses the documented `resume_from_checkpoint`, which passes
over the indices of the batches seen; with `resume-streaming` the same rows are an `IterableDataset`, as run_clm.py's
`--streaming` has it, and the batches themselves are read and dropped.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.theirs.settings import append_step


def main(what: str, path: str) -> None:
    """Train until `stop_at` and save, or resume and end after one step."""
    import torch
    from datasets import load_from_disk
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments, default_data_collator

    settings: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    torch.set_num_threads(settings["threads"])
    stop_at = settings["stop_at"] + (what != "train")

    class Stop(TrainerCallback):
        def on_step_end(self, _args: Any, state: Any, control: Any, **__: Any) -> None:
            if state.global_step == stop_at:
                control.should_training_stop = True
            if what != "train":
                append_step(settings["steps"], state.global_step)

    rows = load_from_disk(settings["rows"])
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(settings["model"]),
        args=TrainingArguments(
            output_dir=settings["out"],
            max_steps=settings["num_steps"],
            per_device_train_batch_size=settings["batch"],
            learning_rate=settings["learning_rate"],
            use_cpu=True,
            optim="adamw_torch_fused",
            dataloader_pin_memory=False,
            logging_steps=1000,
            save_steps=settings["stop_at"],
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=rows.to_iterable_dataset() if what == "resume-streaming" else rows,
        data_collator=default_data_collator,
        callbacks=[Stop()],
    )
    trainer.train(resume_from_checkpoint=None if what == "train" else f"{settings['out']}/checkpoint-{settings['stop_at']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
