"""Records of training: a run as planned, its attempts, checkpoints and steps, and the finished run."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from cpt_ray.records.base import FileEntry, Record, RunKind
from cpt_ray.records.plan import Merge


class StateFigures(Record):
    """Figures that identify a saved state at any number of workers; see `train/checkpoint/state_figures.py`."""

    loss: float
    """On a fixed row, in nats per token."""
    weights_norm: float
    """Global L2 norm of the fp32 master weights."""
    moments: dict[str, float]
    """Name of each of the optimizer's moments to its global L2 norm: `exp_avg` and `exp_avg_sq` for AdamW."""
    optimizer_steps: int
    """The optimizer's step count; Adam's determines its bias correction."""


class RunProgress(Record):
    """Progress of a run, counted from the base; saved with every checkpoint."""

    step: int = 0
    """Batches consumed: optimizer steps and skipped steps."""
    position: int = 0
    """Rows of the sample order consumed."""
    tokens_seen: int = 0
    """Loss-bearing tokens that are in the weights."""
    slots_seen: int = 0
    """Row slots of these tokens, padding included."""
    steps_skipped: int = 0
    """Steps whose loss or gradient was not finite."""
    tokens_skipped: int = 0
    """Loss-bearing tokens of skipped steps: not in the weights, not in `tokens_seen`."""

    @property
    def tokens_spent(self) -> int:
        """Loss-bearing tokens of all batches, seen or skipped: schedule, budget and intervals follow them.

        They are known before a step's outcome is.
        """
        return self.tokens_seen + self.tokens_skipped


class CheckpointManifest(Record):
    """Written last into a checkpoint's folder: without it the checkpoint does not exist."""

    FILE = "manifest.json"

    run: str
    attempt: int
    progress: RunProgress
    world_size: int
    zero_stage: int
    precision: str
    global_batch_size: int
    """Rows per optimizer step; the same at any number of workers."""
    run_fingerprint: str
    """Of everything that determines the run's result: its settings, model, data and parent."""
    data_fingerprint: str
    figures: StateFigures
    versions: dict[str, str]
    files: tuple[FileEntry, ...]
    created: str


class CheckpointTimes(Record):
    """The cost of one checkpoint, a line of `metrics/checkpoints-*.jsonl`; times are those of rank 0."""

    attempt: int
    step: int
    tokens_seen: int
    world_size: int
    size_bytes: int
    """Of all ranks."""
    checkpoint_stall_s: float
    """How long training waited: for figures, the local snapshot, and the previous upload if it was still running."""
    upload_s: float
    """From the end of the snapshot to the commit, in the background."""
    reason: str
    """interval, branch, stop or preemption."""


class RateSchedule(Record):
    """A run's learning rate as a function of `tokens_spent`; `train/runs/schedule.py` evaluates it.

    From `warmup_start_tokens` it rises linearly from `start_rate` to `peak_rate`, stays, then falls to `final_rate`.
    """

    warmup_start_tokens: int
    warmup_tokens: int
    start_rate: float
    peak_rate: float
    decay_start_tokens: int | None
    """None for a trunk, which never decays."""
    decay_end_tokens: int | None
    decay_shape: Literal["1-sqrt", "linear", "cosine"]
    final_rate: float


class RunSpec(Record):
    """A planned training run; `train/runs/specs.py` derives all runs of a study.

    Learning rate and stop are functions of `tokens_spent`, which counts from the base: a branch continues its trunk's count.
    """

    name: str
    kind: RunKind
    model: str
    arm: str
    seed: int
    budget_tokens: int | None
    """None for a trunk, which is never a budget."""
    parent: str | None
    """The run whose checkpoint this one starts from."""
    start_tokens: int
    """Nominal `tokens_spent` at the start: 0, or the parent's branch point."""
    stop_tokens: int
    """The run stops at the first step with `tokens_spent >= stop_tokens`."""
    schedule: RateSchedule
    optimizer: Literal["fresh", "kept"] = "fresh"
    """AdamW's moments at the start: zeros, or those of the parent's checkpoint."""
    budget_flops: float | None = None
    """The budget as configured, if it was given in FLOPs."""
    branch_tokens: tuple[int, ...] = ()
    """Checkpoints that children start from: the first step at or past each of these."""
    trajectory_tokens: tuple[int, ...] = ()
    """Marks at which the model is exported as is, for scores that are not budgets."""
    average_tokens: tuple[int, ...] = ()
    """Marks in the cooldown at which the model is exported for an average of `merges`; never scored."""


class RunAttempt(Record):
    """One start of a run's workers, written when they are ready to train."""

    attempt: int
    first_step: int
    """The step that it continues from: 0 when starting from the base, above 0 after a resume or on a branch."""
    first_tokens: int = 0
    """`tokens_seen` at that step."""
    started: str = ""
    """When its workers began with the run, before they loaded the model: UTC, ISO 8601; empty in older records."""
    resumed: bool
    """Whether it resumed from a checkpoint of this same run."""
    world_size: int
    worker_pids: tuple[int, ...]
    kernel: str
    """Of attention."""
    projections: str = ""
    """Which linear layers are computed as one product, and in how many layers."""
    loss_kernel: str = ""
    """What computes the cross-entropy from hidden states."""
    peak_flops_per_s: float
    """The peak that MFU is measured against, over all workers."""
    peak_basis: str = ""
    """How the peak was determined."""
    flops_basis: str = ""
    """How model FLOPs are counted, attention included."""
    self_test: SelfTest | None
    compiled: CompiledLayers | None = None
    """How the layers were compiled; None if they were not to be."""
    loaded: LoadedCheckpoint | None = None
    """The checkpoint that it continued from."""
    micro_batch_size: int = 1
    """Rows per forward pass on each worker, as asked for or as chosen by memory."""
    dropout: str | None = None
    """The dropout that is applied, and what decides its masks; None if there is none."""
    idle_share: float = 0.0
    """Share of the computed rows that are fillers, because the global batch does not divide evenly among the workers."""


class CompiledLayers(Record):
    """How a model's decoder layers were compiled."""

    active: bool
    """Whether they run compiled."""
    seconds: float
    """How long compiling took, or was tried; over several workers, the slowest."""
    graphs: int
    """Graphs compiled; 0 if an earlier run of the same process had compiled them."""
    reason: str | None = None
    """Why they do not run compiled."""


class LoadedCheckpoint(Record):
    """How a checkpoint was restored, and how long it took."""

    folder: str
    world_size: int
    """Of the workers that wrote it."""
    converted: bool
    """Whether it went through DeepSpeed's universal format."""
    skipped: tuple[str, ...]
    """Newer checkpoints that do not match their manifests, with what is wrong."""
    verify_s: float
    convert_s: float
    load_s: float
    saved: StateFigures
    measured: StateFigures


class SelfTest(Record):
    """Proof that packed documents do not see each other, on the model and kernels in use.

    `masked_difference` is the largest change in a document's token log-probabilities, in nats, when it is packed after
    another one; `unmasked_difference` is the same with the mask off, the control that must fail. `gradient_leak` is the largest
    gradient that a document's attention passes to another one (it must be 0), `gradient_control` the same with the mask off.
    """

    kernel: str
    dtype: str
    masked_difference: float
    unmasked_difference: float
    allowed_difference: float
    gradient_leak: float
    gradient_control: float
    passed: bool


class RunMix(Record):
    """One mixture from which a run drew its rows."""

    first_position: int
    rows: int
    weights: dict[str, float]
    """Source name to its share of these rows, as drawn."""


class DrawnSource(Record):
    """The rows that a run drew of one source: the first of an endless sequence, in which its seed shuffles the source."""

    source: str
    rows: int
    sequence: str
    """Identifies the sequence: runs that share it drew the same rows of the source in the same order, as far as each drew."""


class TrainingCost(Record):
    """Time, FLOPs and memory of a run's own steps; for a trajectory point, of its parent's steps up to it."""

    flops: float
    mean_tokens_per_s: float
    mfu: float | None
    wall_s: float
    """Sum of the steps' times."""
    data_wait_s: float
    """The part of `wall_s` spent reading batches."""
    checkpoint_s: float
    """How long checkpoints stalled training, in addition to `wall_s`."""
    held_out_s: float
    """How long held-out losses during training took, in addition to `wall_s`."""
    host_peak_bytes: int | None
    """Highest resident memory of a worker."""
    device_peak_bytes: int | None
    """Highest memory that torch allocated on a worker's GPU."""


class TrainingRecord(Record):
    """How a run was trained."""

    progress: RunProgress
    start_tokens: int
    """`tokens_seen` of the parent's checkpoint, or 0."""
    schedule: RateSchedule
    optimizer: Literal["fresh", "kept"]
    """AdamW's moments at the start: zeros, or those of the parent's checkpoint."""
    mixes: tuple[RunMix, ...]
    """The mixtures from which its rows were drawn since the base, as realized."""
    drawn: tuple[DrawnSource, ...] = ()
    """The rows drawn of each source since the base."""
    spikes: int
    """Loss spikes of this run."""
    attempts: tuple[RunAttempt, ...]
    """Every start of the run, in order."""
    ended: str = ""
    """When the run had reached its end: UTC, ISO 8601; empty in older records."""
    cost: TrainingCost

    @property
    def interval(self) -> tuple[str, str]:
        """When its first workers began, and when it ended; intervals of runs that trained side by side overlap."""
        return self.attempts[0].started, self.ended

    @property
    def world_sizes(self) -> tuple[int, ...]:
        """Workers of each attempt."""
        return tuple(attempt.world_size for attempt in self.attempts)

    @property
    def first_steps(self) -> tuple[int, ...]:
        """The step at which each attempt began; above 0 after a resume."""
        return tuple(attempt.first_step for attempt in self.attempts)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of all workers, attempt by attempt."""
        return tuple(pid for attempt in self.attempts for pid in attempt.worker_pids)

    @property
    def last(self) -> RunAttempt:
        """The attempt that finished the run."""
        return self.attempts[-1]


class RunRecord(Record):
    """A model of the study: a finished run, a trajectory point of one, a merge, or the untrained base (kind `base`)."""

    FILE = "run.json"

    run: str
    """Unique within the study: model-arm-budget-seed for a budget, model-arm-trunk-seed for a trunk."""
    kind: RunKind
    model: str
    arm: str | None = None
    seed: int | None = None
    budget_tokens: int | None = None
    budget_flops: float | None = None
    axes: dict[str, str] = Field(default_factory=dict)
    """In a grid, the axes that it depends on, and the names of their values."""
    parent: str | None = None
    """The run whose checkpoint this one started from, or whose export was merged."""
    export_path: str | None
    """HF safetensors folder, absolute; None for a trunk, which is never a budget."""
    annealed: bool
    """Whether the learning rate has decayed: only such a run may be called a budget."""
    training: TrainingRecord | None = None
    """None for the base and for a merge."""
    merge: Merge | None = None
    """How a merge was made; its budget is that of `parent`, which it is not itself."""
    merged_tokens: int = 0
    """The `tokens_seen` of the export that a merge was made of."""

    @property
    def cell(self) -> str:
        """Its name without the seed."""
        return f"{self.model}-{self.arm}-{self.budget_tokens}" + (self.merge.suffix if self.merge else "")

    @property
    def tokens_seen(self) -> int:
        """Loss-bearing tokens in its weights since the base."""
        return self.training.progress.tokens_seen if self.training else self.merged_tokens

    @property
    def tokens_paid(self) -> int:
        """Tokens that this run itself was trained on; its parents paid for the tokens they saw."""
        return self.tokens_seen - self.training.start_tokens if self.training else 0


class StepMetrics(Record):
    """One line of a run's metrics file. The x axis is `tokens_seen`. Fields that a skipped step lacks are 0 or not finite."""

    # JSON has no NaN; as a string it round-trips.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    attempt: int
    step: int
    tokens_seen: int
    loss: float
    """Mean over the global batch's loss-bearing tokens, nats per token."""
    learning_rate: float
    gradient_norm: float
    """Global L2 norm before clipping."""
    tokens_per_s: float
    """Loss-bearing tokens of the step over `step_s`."""
    step_s: float
    """From reading the batch to the end of the optimizer step, on rank 0, or from the end of the step before if this one was
    launched earlier; checkpoints and held-out losses are not in it."""
    data_wait_s: float
    """How long the loop waited for the batch."""
    mfu: float | None
    """`flops` divided by `step_s` and by the peak in `RunAttempt`."""
    flops: float = 0.0
    """Model FLOPs of the step, over all workers."""
    skipped: bool = False
    """Whether the step was skipped because its loss or gradient norm is not finite."""
    tokens_skipped: int = 0
    """Loss-bearing tokens of all steps skipped so far."""
    spike: bool = False
    """Whether a loss spike begins here."""
    sample_ids: tuple[str, ...] = ()
    """`source:row` of each row of the global batch, in order."""
