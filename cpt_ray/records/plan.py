"""What a study will cost: the plan that `plan` computes and `report` prints.

These are records because both rooms need them and neither imports the other.
"""

from __future__ import annotations

from typing import Literal

from cpt_ray.records.base import Record, RunKind
from cpt_ray.records.device import Card


class ForeseenCost(Record):
    """What a study was planned to take when its commands began, before anything of a stage was made."""

    FILE = "foreseen.json"

    artifacts: str
    """Hash of the artifacts that were planned: of other settings, nothing here is true."""
    on_gpu: bool
    """Whether `peak_bytes` are of GPUs, as torch allocates them, or of whole processes."""
    peak_bytes: dict[str, int]
    """Model to the peak of a worker; of a grid, in the cell that needs the most."""
    seconds: dict[str, float]
    """Stage to wall seconds."""
    basis: str
    """What the times rest on."""


class SourceNeed(Record):
    """The tokens that one budget of one arm needs from one source."""

    arm: str
    source: str
    weight: float
    """Share of the source in all rows of the budget, over all mixtures of the arm, as drawn."""
    budget_tokens: int
    needed_tokens: int
    available_tokens: int | None
    """Loss-bearing tokens of one pass; None until prepared."""
    epochs: float | None
    """None until prepared, and if the source has no tokens."""
    max_epochs: float
    key: str
    """The config key that sets `max_epochs`."""


class PlannedMix(Record):
    """A mixture that applies to part of a budget."""

    arm: str
    budget_tokens: int
    from_tokens: int
    weights: dict[str, float]
    """Source name to share of rows, as drawn: in parts of 10,000."""


class PlannedBudget(Record):
    """One budget of one model: its tokens, and the training FLOPs for that many tokens, starting at the base."""

    model: str
    flops_per_token: float
    budget_tokens: int
    flops: float


class PlannedRun(Record):
    """One run: tokens, optimizer steps (an estimate), FLOPs and learning rates."""

    run: str
    kind: RunKind
    model: str
    arm: str
    seed: int
    start_tokens: int
    stop_tokens: int
    budget_tokens: int | None
    cooldown_start_tokens: int | None
    """None for a trunk, whose rate never decays."""
    tokens_paid: int
    """Tokens this run itself trains on: `stop_tokens - start_tokens`."""
    steps: int
    flops: float
    start_rate: float
    peak_rate: float
    end_rate: float
    trajectory_tokens: tuple[int, ...]
    average_tokens: tuple[int, ...] = ()
    """Marks in the cooldown at which weights are kept for an average."""


class Merge(Record):
    """A model made out of the export of a run without training; `train/runs/merges.py` derives all merges of a study."""

    run: str
    """Its own name."""
    name: str
    """The entry of `merges` that asks for it."""
    rule: Literal["interpolate", "average", "instruction_residual"]
    made_of: str
    """The run whose export it begins with."""
    weight: float | None = None
    """Interpolation: share of that export; the base has the rest."""
    marks: tuple[int, ...] = ()
    """Average: where the other models stood, in tokens spent."""
    scale: float | None = None
    """Instruction residual: factor of instruct minus base."""

    @property
    def suffix(self) -> str:
        """What its name adds to that of its budget."""
        return f"-{self.name}" + ("" if self.weight is None else f"-{self.weight:g}")

    def __str__(self) -> str:
        if self.weight is not None:
            return f"{self.weight:g} of {self.made_of}, {1 - self.weight:g} of the base"
        if self.marks:
            return f"mean of {self.made_of} and its weights at {', '.join(f'{mark:,}' for mark in self.marks)} tokens"
        return f"{self.made_of} plus {self.scale:g} x (instruct minus base)"


class StudyPlan(Record):
    """What a whole study costs in tokens, steps, FLOPs and epochs."""

    study: str
    budgets_key: str
    """`train.budgets` or `train.budgets_flops`, whichever the study sets."""
    budgets: tuple[PlannedBudget, ...]
    needs: tuple[SourceNeed, ...]
    mixes: tuple[PlannedMix, ...]
    largest_budget: dict[str, int]
    """Arm name to the largest budget that its sources allow; empty until prepared."""
    runs: tuple[PlannedRun, ...]
    fill_share: dict[str, float]
    """Arm name to the share of row slots that bear loss."""
    fill_measured: bool
    """Whether the shares were measured on shards; otherwise they are assumed."""
    mean_keys: float
    """Mean attended keys per query in the FLOP count."""
    tokens_per_step: dict[str, float]
    """Arm name to loss-bearing tokens per optimizer step, mean over its largest budget."""
    idle: str | None
    """What an uneven batch split costs; None if no worker is idle."""
    flops: float
    measured_keys: dict[str, float]
    """Source name to the mean keys per slot of its packed rows; empty until prepared."""
    measured_flops: float | None
    """FLOPs of all runs with `measured_keys`, padding included, as training counts them; None until prepared."""
    tokens_seen: int
    """The largest number of tokens that any model of the study will have seen."""
    tokens_paid: int
    """Tokens that all runs together train on; a shared trunk counts once."""
    merges: tuple[Merge, ...] = ()
    """Models made of these runs without training."""
    tokens_independent: int
    """What the same budgets would cost as independent runs."""

    @property
    def paid_ratio(self) -> float:
        """Tokens paid as a share of running each budget independently."""
        return self.tokens_paid / self.tokens_independent if self.tokens_independent else 1.0


class MemoryPlan(Record):
    """The memory of one worker at its peak, part by part, and the size of a checkpoint and an export, in bytes."""

    model: str
    parameters: int
    frozen_parameters: int = 0
    """Those that `train.freeze` or LoRA leaves as they are: no gradient, no optimizer state."""
    zero_stage: int
    precision: str
    num_workers: int
    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    device_bytes: int
    """The part of these three in the memory where the model computes: on the GPU, or without one, on the worker's host."""
    host_bytes: int
    """The part that offload moves to host memory, per worker."""
    checkpoint_bytes: int
    export_bytes: int
    card: Card | None = None
    """The GPU that a worker computes on; None on a CPU, or where it is not known."""
    on_gpu: bool = False
    rows: int = 0
    """Rows of a forward pass: `train.micro_batch_size`, or what `auto` would choose."""
    row_tokens: int = 0
    activations_bytes: int = 0
    """What a forward pass keeps for its backward pass."""
    loss_bytes: int = 0
    buffers_bytes: int = 0
    """Of ZeRO: buckets, gathered weights, copies in a step."""
    base_bytes: int = 0
    """Of the runtime, where the model computes: libraries, or the CUDA context."""
    spare_bytes: int = 0
    """Lost to fragmentation and to what an allocator keeps."""
    measured_bytes: int | None = None
    """What a trial on this hardware took beyond these estimates, or below them; None without one."""
    host_base_bytes: int = 0
    """Of the runtime in host memory, with a GPU."""
    room_bytes: int | None = None
    """The memory that a worker may fill; None where it is not known."""

    @property
    def allocated_bytes(self) -> int:
        """What is allocated at the peak where the model computes; on a GPU this is what torch reports."""
        states = self.device_bytes + (0 if self.on_gpu else self.host_bytes)
        return states + self.activations_bytes + self.loss_bytes + self.buffers_bytes + (self.measured_bytes or 0)

    @property
    def peak_bytes(self) -> int:
        """The peak where the model computes; on a CPU, of the whole process."""
        return self.allocated_bytes + self.base_bytes + self.spare_bytes

    @property
    def host_peak_bytes(self) -> int:
        """The peak in host memory."""
        return self.host_bytes + self.host_base_bytes if self.on_gpu else self.peak_bytes

    @property
    def fits(self) -> bool | None:
        """Whether a worker has the memory; None where it is not known."""
        return None if self.room_bytes is None else self.peak_bytes <= self.room_bytes


class Trial(Record):
    """What a trial's workers took; seconds are those of rank 0, memory is the highest of any worker."""

    base_bytes: int
    """Resident memory of the process before it loads the model: Python, torch, DeepSpeed."""
    host_peak_bytes: int | None
    """None where the kernel does not say."""
    device_peak_bytes: int | None
    """The most that torch had allocated on the GPU; None on a CPU."""
    passes: int
    """Forward passes of a step."""
    pass_s: float
    """One forward and backward pass."""
    step_s: float
    """One optimizer step after its passes."""
    first_step_s: float
    """The first step, passes included: memory is faulted in, kernels are chosen."""
    import_s: float
    """From the start of the process to its group."""
    build_s: float
    """Model and engine."""
    save_s: float
    """A checkpoint to the local disk, its figures included."""
    export_s: float
    """Whole weights, gathered."""
    score_tokens_per_s: float
    """Forward pass of a row, without gradients."""


class PlannedStage(Record):
    """What one stage of a study takes."""

    stage: Literal["prepare", "train", "evaluate"]
    seconds: float | None
    """Wall time; None where it cannot be known yet."""
    devices: float = 0.0
    """GPUs, or without any CPUs, that it occupies."""
    basis: str
    """What the figure rests on."""

    @property
    def device_hours(self) -> float | None:
        """Wall hours times devices."""
        return None if self.seconds is None else self.seconds * self.devices / 3600


class TimePlan(Record):
    """What a study takes in time and money on one kind of hardware."""

    hardware: str
    """Name of the profile."""
    description: str
    device: Literal["GPU", "CPU"]
    workers: int
    stages: tuple[PlannedStage, ...]
    tokens_per_s: dict[str, float]
    """Model to the tokens per second of its training steps, all workers together."""
    mfu: dict[str, float]
    """Model to the share of the peak that these are."""
    run_seconds: dict[str, float]
    """Run to the wall time of its own training."""
    basis: str
    """What the pace of training rests on: a trial, or the profile's share of the peak and its source."""
    price_per_hour: float | None = None
    """Of a device."""
    currency: str = ""
    price_date: str = ""

    @property
    def seconds(self) -> float:
        """Of all stages that are known."""
        return sum(stage.seconds or 0.0 for stage in self.stages)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Stages whose time is not known, and that no sum has."""
        return tuple(stage.stage for stage in self.stages if stage.seconds is None)

    @property
    def money(self) -> float | None:
        """Of all stages that are known; None without a price."""
        if self.price_per_hour is None:
            return None
        return self.price_per_hour * sum(stage.device_hours or 0.0 for stage in self.stages)


class DiskPlan(Record):
    """What a study keeps when it is done, in bytes; artifacts that cells share count once. None is not known yet."""

    bases_bytes: float
    documents_bytes: float | None
    """Cleaned text."""
    shards_bytes: float | None
    checkpoints_bytes: float
    exports_bytes: float
    scores_bytes: float
    text_bytes: float | None
    """What is read, which stays where it is."""
    requests: float | None = None
    """To the bucket of the root while runs train, beside those for files; None for a root on a disk, and without time."""

    @property
    def root_bytes(self) -> float:
        """All that is known below the root."""
        known = (self.bases_bytes, self.documents_bytes, self.shards_bytes, self.checkpoints_bytes, self.exports_bytes)
        return sum(part or 0.0 for part in known) + self.scores_bytes


class PlannedCell(Record):
    """One cell of a grid: what it costs alone, and what it adds to the cells before it."""

    cell: str
    """Its name; empty for a study without axes."""
    runs: int
    new_runs: int
    """Runs that no earlier cell has."""
    tokens_seen: int
    """By the model that sees the most."""
    tokens_paid: int
    """As if the cell were alone."""
    new_tokens: int
    """Tokens that its new runs train on."""
    new_flops: float
    """FLOPs of its new runs."""
    peak_bytes: int = 0
    """Of a worker, of the model that needs the most."""
    fits: bool | None = None
    """Whether a worker has the memory for all its models; None where it is not known."""
    new_train_s: float | None = None
    """Seconds that its new runs train, one after another; None where the hardware is not known."""


class GridPlan(Record):
    """What the cells of a grid cost together; what they share counts once."""

    study: str
    cells: tuple[PlannedCell, ...]
    artifacts: dict[str, tuple[int, int]]
    """Stage to its artifacts, and to what the cells would need if nothing were shared."""

    @property
    def tokens_paid(self) -> int:
        """By all cells together."""
        return sum(cell.new_tokens for cell in self.cells)

    @property
    def flops(self) -> float:
        """Of all cells together."""
        return sum(cell.new_flops for cell in self.cells)
