"""The path of transformers' `examples/pytorch/language-modeling/run_clm.py`: a text file to a trained model, without DeepSpeed.

    python -m benchmarks.peers.theirs.run_clm SETTINGS.json

As its documentation says, with the options that help here: `--dtype float32` (fp32 master weights, as ours), `--bf16`,
`--preprocessing_num_workers`, `--optim adamw_torch_fused`, `--block_size`, `--keep_linebreaks`. The text loader reads a line as
a record, and `group_texts` joins all of them into rows in which documents see each other.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from benchmarks.peers.theirs.settings import TrainSettings, append_step


def load_rows(settings: TrainSettings, tokenizer: Any) -> Any:
    """The text as rows of token ids and labels: `load_dataset`, `map` to tokenize, `map` to group."""
    from datasets import load_dataset

    length = settings.length

    def encode(batch: dict[str, list[str]]) -> Any:
        return tokenizer(batch["text"])

    def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {name: list(itertools.chain.from_iterable(values)) for name, values in batch.items()}
        whole = len(joined["input_ids"]) // length * length
        rows = {name: [values[at : at + length] for at in range(0, whole, length)] for name, values in joined.items()}
        return {**rows, "labels": [list(row) for row in rows["input_ids"]]}

    files = {"train": settings.text}
    data = load_dataset("text", data_files=files, split="train", keep_linebreaks=True, cache_dir=f"{settings.out}/cache")
    data = data.map(encode, batched=True, num_proc=settings.threads, remove_columns=["text"])
    return data.map(group, batched=True, num_proc=settings.threads)


def train(settings: TrainSettings) -> None:
    """Prepare the rows, train, save the model."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        default_data_collator,
    )

    torch.set_num_threads(settings.threads)
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    rows = load_rows(settings, tokenizer)

    class Steps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            append_step(settings.steps, settings.rows * (settings.length - 1))

    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.float32),
        args=TrainingArguments(
            output_dir=f"{settings.out}/model",
            max_steps=settings.num_steps,
            per_device_train_batch_size=settings.rows,
            learning_rate=settings.learning_rate,
            bf16=settings.precision == "bf16",
            use_cpu=True,
            optim="adamw_torch_fused",
            dataloader_pin_memory=False,
            logging_steps=settings.num_steps,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=default_data_collator,
        callbacks=[Steps()],
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    train(TrainSettings.load(sys.argv[1]))
