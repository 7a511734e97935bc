"""What to change where a model does not fit a worker's memory: the smallest change that makes it fit.

After `plan.memory`. In: a model and its settings. Out: an `Advice` with overrides to paste. Changes are tried from the one that
costs least to the one that costs most: fewer rows per pass (speed), recomputed activations (a third more work), a higher ZeRO
stage (traffic), offload (more traffic, host memory), LoRA (another result); each with as many rows as then fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cpt_ray.config.deepspeed import DeepSpeedConfig
from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.plan.memory import Work, estimate_memory, largest_rows
from cpt_ray.records import MemoryPlan, ModelShape, RunSpec

_OFFLOAD = "ds_configs/zero3_bf16_offload_cpu.json"
_LORA = {"rank": 16, "alpha": 32}
_MOST_WORKERS = 1024


class Asked(NamedTuple):
    """A model on a number of workers."""

    model: str
    shape: ModelShape
    deepspeed: DeepSpeedConfig
    train: TrainConfig
    workers: int
    work: Work

    def memory(self, *, specs: Sequence[RunSpec] = ()) -> MemoryPlan:
        """Its memory, of a worker that trains these runs."""
        return estimate_memory(
            self.model,
            shape=self.shape,
            deepspeed=self.deepspeed,
            train=self.train,
            num_workers=self.workers,
            work=self.work,
            specs=specs,
        )

    def rows(self) -> int | None:
        """The largest micro-batch that fits."""
        return largest_rows(self.shape, self.deepspeed, self.train, num_workers=self.workers, work=self.work, limited=False)

    def with_rows(self, rows: int) -> Asked:
        """The same with a micro-batch."""
        return self._replace(train=self.train.model_copy(update={"micro_batch_size": rows}))


class Advice(NamedTuple):
    """How a model that does not fit would."""

    model: str
    overrides: tuple[str, ...]
    """For the command line; empty if nothing was found."""
    memory: MemoryPlan
    """With these overrides; without any, as asked."""


def find_fit(asked: Asked) -> Advice:
    """The smallest change with which a model fits."""
    for overrides, changed in _changes(asked):
        plan = changed.memory()
        if plan.fits:
            return Advice(asked.model, overrides, plan)
        rows = changed.rows()
        if rows is not None:
            fitted = changed.with_rows(rows)
            return Advice(asked.model, (*overrides, f"train.micro_batch_size={rows}"), fitted.memory())
    return Advice(asked.model, (), asked.memory())


def _changes(asked: Asked) -> Iterator[tuple[tuple[str, ...], Asked]]:
    """Settings that need ever less memory, the smallest change first."""
    last: tuple[tuple[str, ...], Asked] = ((), asked)
    for overrides, changed in _sharded(asked):
        yield overrides, changed
        last = (overrides, changed)
        if not asked.train.gradient_checkpointing:
            last = _recomputing(overrides, changed)
            yield last
    if asked.train.lora is None and not asked.train.freeze:
        yield _with_adapters(*_recomputing((), asked))
    overrides, changed = last
    workers = asked.workers
    while workers < _MOST_WORKERS:
        workers *= 2
        yield (*overrides, f"runtime.workers={workers}"), changed._replace(workers=workers)


def _sharded(asked: Asked) -> Iterator[tuple[tuple[str, ...], Asked]]:
    yield (), asked
    if asked.train.optimizer != "adamw":
        return  # its states cannot be sharded or offloaded any further
    zero = asked.deepspeed.tree.get("zero_optimization", {})
    for stage in range(asked.deepspeed.zero_stage + 1, 4) if asked.workers > 1 else ():
        yield (f"train.deepspeed=ds_configs/zero{stage}_bf16.json",), _with_zero(asked, {**zero, "stage": stage}, stage)
    offloaded = {**zero, "stage": 3, "offload_optimizer": {"device": "cpu"}}
    if asked.work.place.on_gpu and zero.get("offload_optimizer") is None:
        yield (f"train.deepspeed={_OFFLOAD}",), _with_zero(asked, offloaded, 3)


def _with_zero(asked: Asked, zero: dict[str, object], stage: int) -> Asked:
    # Of the files that are named: buckets by the hidden size.
    if stage == 3:
        zero |= {"reduce_bucket_size": "auto"}
    tree = {**asked.deepspeed.tree, "zero_optimization": zero}
    return asked._replace(deepspeed=DeepSpeedConfig(tree=tree, zero_stage=stage))


def _recomputing(overrides: tuple[str, ...], asked: Asked) -> tuple[tuple[str, ...], Asked]:
    if asked.train.gradient_checkpointing:
        return overrides, asked
    train = asked.train.model_copy(update={"gradient_checkpointing": True})
    return (*overrides, "train.gradient_checkpointing=true"), asked._replace(train=train)


def _with_adapters(overrides: tuple[str, ...], asked: Asked) -> tuple[tuple[str, ...], Asked]:
    shape = asked.shape
    # All linear layers: of each, rank times its in- and out-features; a square matrix of H x H has 2H of these.
    adapters = _LORA["rank"] * 2 * shape.body_parameters // shape.hidden_size
    changed = asked._replace(
        shape=shape.model_copy(update={"adapter_parameters": adapters}),
        train=asked.train.model_copy(update={"lora": LoraSection.model_validate(_LORA)}),
    )
    return (*overrides, f"train.lora={{rank: {_LORA['rank']}, alpha: {_LORA['alpha']}}}"), changed
