"""The optimizers that `train.optimizer` names: what each keeps, and where it may run. Imports no torch, so a plan can read it.

In: the `train` section, a DeepSpeed JSON, the number of workers. Out: facts, or a refusal. Guarantee: what is not refused
survives a checkpoint and a resume.

The form of the states decides. ZeRO 1 to 3 flattens weights and gives each worker a part. AdamW, with an entry per weight, does
not notice. Adafactor sums over the rows and over the columns of a matrix (Shazeer and Stern 2018, arXiv 1804.04235, section 3),
which a part of a flat vector does not have. 8-bit AdamW (Dettmers et al. 2022, arXiv 2110.02861, section 2) quantizes blocks of
256 entries of a worker's part, with a scale each: fine while parts stay, but no other number of workers can cut them again.
"""

from __future__ import annotations

from typing import NamedTuple

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.runtime import Workers
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.errors import ConfigError


class OptimizerKind(NamedTuple):
    """What an optimizer keeps for the weights that it trains."""

    moments: tuple[str, ...]
    """Names of its moments, as its states call them."""
    moment_bytes: int
    """Bytes of its moments per weight."""
    highest_stage: int
    """The highest ZeRO stage at which it computes what it should."""
    can_be_divided: bool
    """Whether another number of workers can divide its sharded moments anew."""


KINDS = {
    "adamw": OptimizerKind(("exp_avg", "exp_avg_sq"), 8, highest_stage=3, can_be_divided=True),
    # And 8 bytes for every 256 weights.
    "adamw_8bit": OptimizerKind(("state1", "absmax1", "state2", "absmax2"), 2, highest_stage=3, can_be_divided=False),
    # A matrix of 1,000 x 1,000 keeps 8 kB, below a hundredth of a byte per weight; a vector keeps 4 bytes per weight.
    "adafactor": OptimizerKind(("exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq"), 0, highest_stage=0, can_be_divided=False),
}


def check_optimizer(train: TrainConfig, deepspeed: DeepSpeedConfig, workers: Workers) -> None:
    """Refuse an optimizer that ZeRO would take apart, that could not resume with these workers, or whose loss is not scaled.

    Raises:
        ConfigError: Names the optimizer or the precision, and the ZeRO stage or the workers.
    """
    stage, kind = deepspeed.zero_stage, KINDS[train.optimizer]
    if train.precision == "fp16" and stage == 0:
        # Its engine scales the loss only of ZeRO's optimizers; tests/train/engine/test_atomic_step.py shows when it is fixed.
        raise ConfigError(
            "train.precision is fp16, but train.deepspeed has ZeRO stage 0, where DeepSpeed 0.19 divides gradients by a "
            "scale that it has not multiplied the loss by",
            fix="set train.deepspeed to a file of stage 1 to 3, which one worker can use too, and train.optimizer=adamw; or "
            "train.precision=bf16 or fp32",
        )
    said = f"train.optimizer is {train.optimizer}, but"
    if stage > kind.highest_stage:
        raise ConfigError(
            f"{said} train.deepspeed has ZeRO stage {stage}, which flattens weights and shards them: the rows and columns of a "
            "matrix, over which Adafactor sums, are gone",
            fix='set train.deepspeed to a file with {"zero_optimization": {"stage": 0}}, where every worker holds whole '
            "states, which are small; or train.optimizer=adamw",
        )
    if train.optimizer != "adamw" and "offload_optimizer" in deepspeed.tree.get("zero_optimization", {}):
        raise ConfigError(
            f"{said} train.deepspeed offloads optimizer states, which DeepSpeed steps on the host with AdamW only",
            fix="set train.deepspeed to a file without offload_optimizer, or train.optimizer=adamw",
        )
    if stage > 0 and not kind.can_be_divided and workers.min != workers.max:
        raise ConfigError(
            f"{said} runtime.workers is {workers}, and its quantized moments cannot be divided among another number of workers",
            fix=f"set runtime.workers={workers.max}, or train.optimizer=adamw",
        )
