"""One training problem, solved by the engine on every rank of a group and by plain torch in one process.

Rows, model and settings are the same for all; what differs is a `Case`. Functions that start with `engine_` run in the
workers of `zero_group`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from cpt_ray.config.deepspeed import DeepSpeedConfig, check_deepspeed
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.model.loss import IGNORED
from cpt_ray.train.order.batches import MicroBatch

VOCABULARY = 160
T = 32
ROWS = 4
STEPS = 4
RATE = 3e-3


@dataclass(frozen=True)
class Case:
    """A way of splitting the work. `offload`: none, optimizer, or parameters (and the optimizer)."""

    stage: int
    precision: str
    offload: str = "none"
    tied: bool = True

    def __str__(self) -> str:
        return f"z{self.stage}-{self.precision}-{self.offload}-{'tied' if self.tied else 'untied'}"

    def deepspeed(self) -> DeepSpeedConfig:
        """The JSON that a user would write for it."""
        zero: dict[str, Any] = {"stage": self.stage, "overlap_comm": False}
        if self.offload != "none":
            zero["offload_optimizer"] = {"device": "cpu"}
        if self.offload == "parameters":
            zero["offload_param"] = {"device": "cpu"}
        if self.stage == 3:
            zero["stage3_param_persistence_threshold"] = 100  # otherwise most tensors of a tiny model would stay whole
        tree = {"bf16": {"enabled": "auto", "check_grad_overflow": False}, "zero_optimization": zero}
        return check_deepspeed(tree, "ds.json")


def train_config(precision: str, **changes: Any) -> TrainConfig:
    """Clipping that takes effect, weight decay, and as many accumulation steps as rows."""
    settings = {
        "budgets": (1000,),
        "learning_rate": RATE,
        "global_batch_size": ROWS,
        "micro_batch_size": 1,
        "gradient_clipping": 0.5,
        "precision": precision,
        "deepspeed": "unused",
    }
    return TrainConfig(**{**settings, **changes})


def write_model(folder: Path, *, tied: bool) -> Path:
    """A tiny Llama whose weights are exact in bf16, so both precisions start from the same point."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=T,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def rows(step: int) -> list[tuple[Tensor, tuple[int, ...]]]:
    """The rows of a step: ids [T] and segment lengths; the last segment of a row is padding without labels."""
    generator = torch.Generator().manual_seed(100 + step)
    cuts = ((20, 8, 4), (15, 15, 2), (31, 1), (5, 22, 5))
    return [(torch.randint(VOCABULARY, (T,), generator=generator), cut) for cut in cuts]


def labels_of(ids: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """The next token within each segment; none for the last of a segment and for padding."""
    labels = torch.full_like(ids, IGNORED)
    start = 0
    for length in lengths[:-1]:
        labels[start : start + length - 1] = ids[start + 1 : start + length]
        start += length
    return labels


def loss_tokens() -> int:
    """Loss-bearing tokens of a step."""
    return sum(int((labels_of(ids, lengths) != IGNORED).sum()) for ids, lengths in rows(0))


def build_engine(folder: str, case: Case, **changes: Any) -> Any:
    """An engine on this rank."""
    from cpt_ray.model.base import load_model
    from cpt_ray.train.engine.engine import Engine

    return Engine(
        load_model(folder, precision=case.precision),
        train=train_config(case.precision, **changes),
        deepspeed=case.deepspeed(),
        accumulation_steps=ROWS // dist.get_world_size(),
        device=torch.device("cpu"),
    )


def train_steps(engine: Any, first: int, last: int) -> list[tuple[float, float]]:
    """Take steps `first` to `last` (exclusive); returns (loss, gradient norm) of each."""
    found = []
    for step in range(first, last):
        mine = list(enumerate(rows(step), start=step * ROWS))[dist.get_rank() :: dist.get_world_size()]
        batches = [MicroBatch(ids, labels_of(ids, lengths), lengths, position) for position, (ids, lengths) in mine]
        loss = engine.accumulate(batches, loss_tokens=loss_tokens())
        found.append(engine.step(RATE, loss).read())
    return found


def engine_trains(folder: str, case: Case, out: str, **changes: Any) -> dict[str, Any]:
    """Train, score a row, and export in both precisions."""
    from cpt_ray.model.exports.export import export_model

    engine = build_engine(folder, case, **changes)
    losses = train_steps(engine, 0, STEPS)
    nats = engine.score(rows(99)[0][0], (T,), True)
    states = {name: engine.whole_state(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    if dist.get_rank() == 0:
        for name, state in states.items():
            export_model(engine.lm, state, tokenizer=Path(folder), folder=Path(out) / name, card="# test\n")
    engine.close()
    return {"losses": losses, "nats": nats[: T - 1].tolist()}


def reference_trains(
    folder: Path, precision: str, *, embedding_factor: float = 1.0, frozen: tuple[str, ...] = (), optimizer: Any = None
) -> tuple[list[tuple[float, float]], dict[str, Tensor]]:
    """The same steps in plain torch: fp32 master weights, AdamW, gradients of the whole batch summed in fp32.

    `frozen` are prefixes of names that keep their weights; `optimizer` builds one over groups.

    Returns:
        (loss, gradient norm) by step, and the master weights.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    master = {name: p.detach().float().clone().requires_grad_() for name, p in model.named_parameters()}
    trained = {name: p for name, p in master.items() if not name.startswith(frozen or "none")}
    tables = {"model.embed_tokens.weight", "lm_head.weight"}
    groups = [
        {"params": [p], "weight_decay": 0.1 * (p.ndim >= 2), "lr": RATE * (embedding_factor if name in tables else 1)}
        for name, p in trained.items()
    ]
    stepped = optimizer(groups) if optimizer else torch.optim.AdamW(groups, betas=(0.9, 0.95))
    found = []
    for step in range(STEPS):
        total = 0.0
        stepped.zero_grad()
        for ids, lengths in rows(step):
            labels = labels_of(ids, lengths)
            for part, target in zip(ids.split(lengths), labels.split(lengths), strict=True):
                logits = model(part[None]).logits[0].float()
                nats = torch.nn.functional.cross_entropy(logits, target, reduction="sum", ignore_index=IGNORED)
                model.zero_grad()
                (nats / loss_tokens()).backward()
                for name, p in model.named_parameters():  # summed in fp32: autograd would round each sum to the weights' type
                    if name in trained:
                        grad = master[name].grad
                        master[name].grad = p.grad.float() if grad is None else grad + p.grad.float()
                total += float(nats.detach())
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), 0.5)
        stepped.step()
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(master[name])
        found.append((total / loss_tokens(), float(norm)))
    return found, {name: p.detach() for name, p in master.items()}
