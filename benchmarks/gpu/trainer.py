"""Hugging Face's Trainer as a peer: packed rows with isolated documents, torch.compile, Liger's kernels where installed.

In: a model in bf16 and the rows of each step. Out: seconds and losses of each step. The Trainer keeps fp32 weights and computes
in bf16 by autocast, which is what its users get; the rows carry position ids that restart at each document, from which
transformers isolates documents in FlexAttention, flash attention and sdpa. For flash attention a micro-batch is one long row,
as transformers asks for; for the others it is a batch of rows, or their masks would grow with its square.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from cpt_ray.data.rows.shards import PackedRow
from cpt_ray.model.loss import IGNORED


class PackedRows(Dataset[dict[str, Any]]):
    """Rows in the Trainer's format, `joined` of them as one; the model shifts labels, a document's first token has none."""

    def __init__(self, rows: Sequence[PackedRow], *, joined: int) -> None:
        starts = range(0, len(rows), joined)
        self._items = [_joined([_example(row) for row in rows[start : start + joined]], alone=joined > 1) for start in starts]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]


def _example(row: PackedRow) -> dict[str, Tensor]:
    tokens = torch.from_numpy(row.tokens).long()
    used = sum(row.segment_lengths)
    lengths = [*row.segment_lengths, *([len(tokens) - used] if used < len(tokens) else [])]
    positions = torch.cat([torch.arange(length) for length in lengths])
    labels = tokens.clone()
    labels[positions == 0] = IGNORED
    labels[used:] = IGNORED
    return {"input_ids": tokens, "labels": labels, "position_ids": positions}


def _joined(parts: list[dict[str, Tensor]], *, alone: bool) -> dict[str, Any]:
    """Examples as one; where that is a batch, with the boundaries that flash attention would else look for in each layer."""
    whole: dict[str, Any] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if alone:
        ends = torch.cat([torch.nonzero(whole["position_ids"] == 0)[:, 0], torch.tensor([len(whole["input_ids"])])]).int()
        longest = int(whole["position_ids"].max()) + 1
        whole |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    return whole


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack examples; one alone keeps its boundaries as they are."""
    if len(items) == 1 and "cu_seq_lens_q" in items[0]:
        rows = ("input_ids", "labels", "position_ids")
        return {name: value[None] if name in rows else value for name, value in items[0].items()}
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


class Timer(TrainerCallback):  # type: ignore[misc]
    """Seconds from step to step, and logged losses."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._last = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._last = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Read the clock, with nothing left to compute."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **__: Any) -> None:
        """Keep the loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def run_trainer(
    model: PreTrainedModel,
    steps: Sequence[Sequence[PackedRow]],
    load: Any,
    *,
    attention: str,
    liger: bool,
    rate: float,
    decay: float,
) -> dict[str, Any]:
    """Train the steps with the Trainer.

    Args:
        model: In bf16 on its device; trained in fp32 under autocast.
        steps: The rows of each step.
        load: Rows of a micro-batch, micro-batches of a step, and how many steps are warm-up.
        attention: An attention implementation of transformers.
        liger: Whether Liger's kernels replace the model's own; on a GPU.
        rate: Constant learning rate.
        decay: Weight decay.
    """
    cuda = torch.cuda.is_available()
    joined = load.rows if attention.startswith("flash") else 1
    model.set_attn_implementation(attention)
    timer = Timer()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model.float(),
            args=TrainingArguments(
                output_dir=folder,
                max_steps=len(steps),
                per_device_train_batch_size=load.rows // joined,
                gradient_accumulation_steps=load.micro_batches,
                bf16=True,
                use_cpu=not cuda,
                optim="adamw_torch_fused",
                learning_rate=rate,
                weight_decay=decay,
                adam_beta2=0.95,
                lr_scheduler_type="constant",
                train_sampling_strategy="sequential",
                dataloader_pin_memory=cuda,
                torch_compile=cuda,
                use_liger_kernel=cuda and liger,
                remove_unused_columns=False,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=PackedRows([row for rows in steps for row in rows], joined=joined),
            data_collator=collate,
            callbacks=[timer],
        )
        trainer.train()
    return {"first_s": timer.seconds[0], "step_s": timer.seconds[load.warmup :], "losses": timer.losses}
