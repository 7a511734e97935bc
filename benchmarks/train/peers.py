"""The training benchmark's peers: a bare torch loop, and Hugging Face's Trainer with DeepSpeed, on the rows of our run.

Run by `benchmarks.train`, one process per measurement: `python -m benchmarks.train.peers bare|hf|peak SETTINGS.json`. The
settings name the model's folder, the rows and learning rates of each step (both read back from our run's metrics, so they are
the same) and the result file: per step the seconds from requesting the batch to the end of the optimizer step, and the loss.
The bare loop has every optimization that ours has: isolated documents, the same blockwise loss, fused AdamW over fp32 master
weights, the same allocator. The Trainer has the best options open to its users: its mask of packed documents from position ids,
DeepSpeed's chunked loss with 16 rows per block, fused AdamW, ZeRO with the same small buckets, the same allocator.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpt_ray.data.rows.shards import PackedRow, ShardReader
from cpt_ray.model.loss import IGNORED
from cpt_ray.records import ShardManifest
from cpt_ray.train.order.batches import join_rows

PEAK_SIZE, PEAK_PRODUCTS = 1536, 200
PEAK_FLOPS = 2 * PEAK_SIZE**3 * PEAK_PRODUCTS
"""FLOPs per step of the peer `peak`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one measurement, as JSON."""

    model: str
    shards: str
    sample_ids: list[list[str]]
    learning_rates: list[float]
    micro_rows: int
    deepspeed: dict[str, Any]
    adam: dict[str, float]
    weight_decay: float
    clipping: float
    threads: int
    result: str
    steps: str
    """A file that gets a line at the end of each step."""


class Rows:
    """The rows of each step, read from our run's shards."""

    def __init__(self, settings: Settings) -> None:
        folder = Path(settings.shards)
        self._reader = ShardReader(folder, ShardManifest.load(folder / "manifest.json"))
        self._sample_ids = settings.sample_ids

    def at(self, step: int) -> list[PackedRow]:
        """The rows of a step, from 0."""
        parts = (sample.rsplit(":", 1) for sample in self._sample_ids[step])
        return [self._reader.rows(source, [int(row)])[0] for source, row in parts]


def run_bare(settings: Settings) -> dict[str, Any]:
    """Train with torch alone."""
    from cpt_ray.model.attention.isolation import hidden_states
    from cpt_ray.model.base import load_model
    from cpt_ray.model.loss import ChunkedCrossEntropy

    model = load_model(settings.model, precision="bf16").train()
    parameters = list(model.parameters())
    masters = [parameter.detach().float().clone().requires_grad_() for parameter in parameters]
    groups = [
        {"params": [m for m in masters if m.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [m for m in masters if m.ndim < 2], "weight_decay": 0.0},
    ]
    adam = settings.adam
    optimizer = torch.optim.AdamW(groups, betas=(adam["beta1"], adam["beta2"]), eps=adam["epsilon"], fused=True)
    device, source = model.device, Rows(settings)
    seconds, losses = [], []
    for step, rate in enumerate(settings.learning_rates):
        started = time.perf_counter()
        rows = source.at(step)
        labeled = sum(row.loss_tokens for row in rows)
        nats = torch.zeros((), device=device)
        for first in range(0, len(rows), settings.micro_rows):
            batch = join_rows(rows[first : first + settings.micro_rows])
            hidden = hidden_states(model, batch.input_ids.to(device), batch.segment_lengths)
            weight = model.get_output_embeddings().weight
            loss = ChunkedCrossEntropy.apply(hidden, weight, batch.labels.to(device))
            (loss / labeled).backward()
            nats += loss.detach()
        for parameter, master in zip(parameters, masters, strict=True):
            master.grad, parameter.grad = parameter.grad.float(), None
        torch.nn.utils.clip_grad_norm_(masters, settings.clipping)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        with torch.no_grad():
            for parameter, master in zip(parameters, masters, strict=True):
                parameter.copy_(master)
                master.grad = None
        losses.append(float(nats) / labeled)
        seconds.append(time.perf_counter() - started)
        _announce(settings, seconds[-1])
    return {"step_s": seconds, "loss": losses}


def run_hf(settings: Settings) -> dict[str, Any]:
    """Train with Hugging Face's Trainer and DeepSpeed, documents isolated by transformers' mask.

    Raises:
        RuntimeError: If DeepSpeed is not really on: with `use_cpu` the Trainer silently drops it and would then train bf16
            weights without fp32 copies, which is a different optimizer and looks fast.
    """
    import transformers.training_args
    from deepspeed.runtime.chunked_cross_entropy import install_chunked_causal_lm_loss
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
    from transformers import AutoModelForCausalLM, Trainer

    # Without a GPU, bf16 is refused unless `use_cpu` is set, and `use_cpu` drops DeepSpeed.
    transformers.training_args.is_torch_bf16_gpu_available = lambda: True
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.bfloat16)
    if not torch.cuda.is_available():
        install_chunked_causal_lm_loss(model, block_rows=16, backend="torch")
    seconds: list[float] = []
    losses: list[float] = []
    trainer = Trainer(
        model=model,
        args=_hf_arguments(settings),
        train_dataset=_PackedRows(settings),
        callbacks=[_hf_timer(settings, seconds, losses)],
    )
    rates = settings.learning_rates
    trainer.create_scheduler = lambda num_training_steps, optimizer=None: _set_scheduler(trainer, optimizer, rates)  # noqa: ARG005
    trainer.train()
    optimizer = getattr(trainer.model_wrapped, "optimizer", None)
    if not trainer.is_deepspeed_enabled or not isinstance(optimizer, DeepSpeedZeroOptimizer | DeepSpeedZeroOptimizer_Stage3):
        raise RuntimeError(f"DeepSpeed is not on: {type(trainer.model_wrapped).__name__}, {type(optimizer).__name__}")
    return {"step_s": seconds, "loss": losses, "optimizer": type(optimizer).__name__}


def _announce(settings: Settings, seconds: float) -> None:
    with Path(settings.steps).open("a", encoding="utf-8") as stream:
        stream.write(f"{seconds:.3f}\n")


def _hf_timer(settings: Settings, seconds: list[float], losses: list[float]) -> Any:
    from transformers import TrainerCallback

    class Timer(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.last = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = time.perf_counter()
            seconds.append(now - self.last)
            self.last = now
            _announce(settings, seconds[-1])

        def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **__: Any) -> None:
            if logs and "loss" in logs:
                losses.append(float(logs["loss"]))

    return Timer()


def _hf_arguments(settings: Settings) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(Path(settings.result).parent / "hf"),
        max_steps=len(settings.learning_rates),
        per_device_train_batch_size=settings.micro_rows,
        gradient_accumulation_steps=len(settings.sample_ids[0]) // settings.micro_rows,
        bf16=True,
        optim="adamw_torch_fused",
        adam_beta1=settings.adam["beta1"],
        adam_beta2=settings.adam["beta2"],
        adam_epsilon=settings.adam["epsilon"],
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clipping,
        learning_rate=1.0,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        deepspeed={
            **settings.deepspeed,
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
        },
    )


def _set_scheduler(trainer: Any, optimizer: Any, rates: list[float]) -> Any:
    target = optimizer if optimizer is not None else trainer.optimizer
    schedule = torch.optim.lr_scheduler.LambdaLR(target, lambda step: rates[min(step, len(rates) - 1)])
    trainer.lr_scheduler = schedule
    return schedule


class _PackedRows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Rows in the Trainer's format: the model shifts the labels; a document's first token has none."""

    def __init__(self, settings: Settings) -> None:
        source = Rows(settings)
        self._rows = [row for step in range(len(settings.sample_ids)) for row in source.at(step)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self._rows[index]
        tokens = torch.from_numpy(row.tokens)
        lengths = [*row.segment_lengths, len(tokens) - sum(row.segment_lengths)]
        labels, positions = tokens.clone(), torch.cat([torch.arange(length) for length in lengths])
        labels[positions == 0] = IGNORED
        labels[sum(row.segment_lengths) :] = IGNORED
        return {"input_ids": tokens, "labels": labels, "position_ids": positions}


def run_peak(settings: Settings) -> dict[str, Any]:
    """No training: `PEAK_FLOPS` worth of matrix products per step."""
    left, right = (torch.randn(PEAK_SIZE, PEAK_SIZE).bfloat16() for _ in range(2))
    seconds = []
    for _ in settings.learning_rates:
        started = time.perf_counter()
        for _ in range(PEAK_PRODUCTS):
            left @ right
        seconds.append(time.perf_counter() - started)
        _announce(settings, seconds[-1])
    return {"step_s": seconds, "loss": []}


def main() -> None:
    """Run one peer and write its result."""
    variant, path = sys.argv[1], Path(sys.argv[2])
    settings = Settings(**json.loads(path.read_text(encoding="utf-8")))
    if not torch.cuda.is_available():
        torch.set_num_threads(settings.threads)
    result = {"bare": run_bare, "hf": run_hf, "peak": run_peak}[variant](settings)
    Path(settings.result).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
