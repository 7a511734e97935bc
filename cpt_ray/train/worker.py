"""One training worker's job: build, prove isolation, resume, train, export, and write the run's record.

The same function runs in a Ray Train worker and in the driver process. Files under the run's folder:

    checkpoints/step-*/     committed states            attempts/attempt-*.json   who started, from which step
    metrics/attempt-*.jsonl one line per step           export/                   HF folder, for budgets
    trajectory/MARK/        record and HF folder        average/MARK/             HF folder at a mark of the cooldown
    events/*.jsonl          events, warnings too        logs/rank-*.log           of each worker and its libraries
    run.json                the RunRecord, written last
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.data.rows.shards import ShardReader, join_manifests
from cpt_ray.edges import store
from cpt_ray.edges.logs import log_to, rank_log
from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import lines
from cpt_ray.model.attention.self_test import describe, require_isolation, run_self_test
from cpt_ray.model.base import load_model
from cpt_ray.model.bases.window import require_within_window
from cpt_ray.model.parameters import FLOPS_BASIS, flops_per_token, trained_shape
from cpt_ray.model.precision import PRECISIONS
from cpt_ray.records import (
    ImportedModel,
    LoadedCheckpoint,
    Made,
    ModelShape,
    RunAttempt,
    RunEvent,
    RunProgress,
    SelfTest,
    ShardManifest,
)
from cpt_ray.train.checkpoint.resume import Start, describe_resume, find_start, load_checkpoint
from cpt_ray.train.checkpoint.saver import Saver, stopped_at
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.engine.micro_batch import Passes, choose_micro_batch, out_of_memory_named
from cpt_ray.train.exports import Exports
from cpt_ray.train.groups.process import prepare_process
from cpt_ray.train.loop import Course, train
from cpt_ray.train.monitor.heartbeat import TellDriver
from cpt_ray.train.monitor.held_out import HeldOutLoss, watch_held_out
from cpt_ray.train.monitor.metrics import ATTEMPTS, bring_run, clear_run, walk_steps
from cpt_ray.train.monitor.peak import measure_peak_flops, peak_basis
from cpt_ray.train.monitor.step_checks import Guards, StepRefused
from cpt_ray.train.monitor.watch import Watch, intervals
from cpt_ray.train.order.batch_split import BatchSplit
from cpt_ray.train.order.batches import Batch, BatchSource
from cpt_ray.train.order.mixes import sample_order
from cpt_ray.train.order.prefetch import Prefetch
from cpt_ray.train.order.samples import SampleOrder
from cpt_ray.train.runs.record import wall_clock
from cpt_ray.train.runs.schedule import learning_rate
from cpt_ray.train.shutdown import AskPreemption
from cpt_ray.train.task import TrainTask

logger = logging.getLogger(__name__)


def run_worker(task: TrainTask, *, tell: TellDriver | None = None, ask_preemption: AskPreemption | None = None) -> None:
    """Train one run to its end; collective over the existing process group, or alone if there is none.

    Args:
        task: The run.
        tell: Told the heartbeats of this worker; None if nobody watches.
        ask_preemption: Reports whether a node of the group will be preempted.

    Raises:
        TrainingStopped: On every rank, if a stop was requested; progress is saved.
        CptRayError: On every rank, for anything that a restart would not fix.
    """
    started = wall_clock()
    device = prepare_process(task.runtime, precision=task.settings.train.precision, threads=task.threads)
    task = _arrive(task)
    watch = Watch(Path(task.run_folder), device, tell)
    try:
        with log_to(rank_log(Path(task.run_folder), dist.get_rank()), watch.warn):
            logger.info("run %s on rank %d of %d", task.spec.name, dist.get_rank(), dist.get_world_size())
            try:
                _train(task, device, watch, ask_preemption, started)
            except BaseException as error:
                logger.info("ended early", exc_info=error)
                raise
    finally:
        watch.stop()


def _arrive(task: TrainTask) -> TrainTask:
    """The task on this node; with a root in a bucket, its mirror is brought to what the bucket has. Collective."""
    task = task.here()
    folder = Path(task.run_folder)
    if store.is_mirrored(folder):
        if int(os.environ.get("LOCAL_RANK", "0")) == 0:
            clear_run(folder)
            if task.parent_folder is not None:
                bring_run(Path(task.parent_folder))
        lines.publish(rank_log(folder, dist.get_rank()))
        dist.barrier()
    return task


@dataclass(frozen=True)
class _Parts:
    """The parts of a run, before its state is loaded."""

    shards: Made[ShardManifest]
    split: BatchSplit
    passes: Passes
    held_out: HeldOutLoss
    start: Start
    order: SampleOrder
    engine: Engine


def _build(task: TrainTask, device: torch.device, watch: Watch) -> _Parts:
    settings = task.settings.train
    made = [Made(Path(folder), ShardManifest.of(folder)) for folder in (task.shards_folder, *task.derived_folders)]
    shards = join_manifests(made[0], made[1:])
    watch.enter("resume")
    # Before the engine, because DeepSpeed must know at startup whether another number of workers wrote the checkpoint.
    start = find_start(task, rank=dist.get_rank(), world_size=dist.get_world_size())
    order = _order(task, shards.record, start)
    watch.enter("load")
    model = load_model(task.model_folder, precision=settings.precision, trust_remote_code=task.settings.model.trust_remote_code)
    require_within_window(model.config, shards.record.sequence_length)
    passes = _passes(task, shards.record, device)
    micro_batch = choose_micro_batch(passes, model)
    split = BatchSplit(settings.global_batch_size, dist.get_world_size(), micro_batch)
    if dist.get_rank() == 0 and (idle := split.describe_idle()):
        logger.warning(idle)
    held_out = watch_held_out(
        task.held_out_folder if settings.watch.held_out_every != 0 else None,
        Path(task.model_folder),
        documents=settings.watch.held_out_documents,
        prefix=shards.record.prefix_id,
        window=shards.record.sequence_length,
        rows=split.micro_batch,
        trust_remote_code=task.settings.model.trust_remote_code,
    )
    with out_of_memory_named(passes, micro_batch):
        engine = _build_engine(task, model, start, split, shards.record.sequence_length, device, watch)
    return _Parts(shards, split, passes, held_out, start, order, engine)


def _train(task: TrainTask, device: torch.device, watch: Watch, ask_preemption: AskPreemption | None, started: str) -> None:
    spec, settings = task.spec, task.settings.train
    parts = _build(task, device, watch)
    manifest, engine, start = parts.shards.record, parts.engine, parts.start
    watch.enter("self_test")
    proof = None if settings.isolation == "none" else _prove_isolation(engine, manifest, settings)
    watch.enter("resume")
    progress, loaded = _load(task, engine, start, manifest)
    resumed = start.resume is not None and start.resume.own
    attempt = _announce(task, engine, parts.split, progress, proof, loaded, resumed=resumed, started=started)
    passed = progress.tokens_spent if resumed else spec.start_tokens
    exports = Exports(task, engine, parts.order, manifest, tokens_spent=passed, on_wait=watch.move)
    # A branch starts up to a step past its nominal start, where it may have a mark already.
    exports.points(progress)
    saver = Saver(
        task,
        engine,
        attempt=attempt.attempt,
        vocabulary_size=manifest.vocabulary_size,
        stop_wanted=watch.stop_wanted,
        ask_preemption=ask_preemption,
        before_save=exports.points,  # a run that resumes from the checkpoint will not pass these marks again
    )
    # A stop that was requested while the workers started: nothing has been trained since the last checkpoint.
    saver.stop_before_training(progress)
    _begin_watching(task, parts, watch, progress, attempt)
    guards = _guards(task, start, progress, attempt)
    with (
        out_of_memory_named(parts.passes, parts.split.micro_batch),
        Prefetch(_batches(parts).at, rows=parts.split.rows, device=engine.device) as batches,
    ):
        course = Course(
            stop_tokens=spec.stop_tokens,
            batch_at=batches.at,
            learning_rate=partial(learning_rate, schedule=spec.schedule),
            flops=partial(_flops, _shape(task)),
            peak_flops_per_s=attempt.peak_flops_per_s,
            attempt=attempt.attempt,
        )
        try:
            progress = train(progress, course, engine=engine, guards=guards, monitor=watch, checkpoints=saver, lag=engine.lag)
        except StepRefused:
            saver.drain()  # by every rank: the checkpoint on its way is whole. Another error may be of this rank alone
            raise
    if progress.tokens_spent < spec.stop_tokens:
        watch.close()
        engine.close()
        raise stopped_at(spec.name, progress)
    # Before the export, whose record says that the run is finished: a failed upload must still fail the run.
    saver.drain()
    watch.enter("export")
    exports.finish(progress, close=watch.close)
    engine.close()


def _begin_watching(task: TrainTask, parts: _Parts, watch: Watch, progress: RunProgress, attempt: RunAttempt) -> None:
    run_tokens = task.spec.stop_tokens - task.spec.start_tokens
    watch.begin(
        progress,
        attempt=attempt.attempt,
        every=intervals(task.settings.train.watch, run_tokens, parts.held_out),
        measure_held_out=partial(parts.held_out.measure, parts.engine.nats, attempt=attempt.attempt, on_pass=watch.move),
    )
    at = {"step": progress.step, "tokens_seen": progress.tokens_seen}
    if (text := describe_resume(attempt)) is not None:
        watch.report(RunEvent(kind="resume", attempt=attempt.attempt, text=text, **at))
    if attempt.compiled is not None and attempt.compiled.active:
        text = f"layers run compiled: {attempt.compiled.graphs} new graphs in {attempt.compiled.seconds:.1f} s"
        watch.report(RunEvent(kind="compile", attempt=attempt.attempt, text=text, seconds=attempt.compiled.seconds, **at))


def _batches(parts: _Parts) -> BatchSource:
    length = parts.shards.record.sequence_length
    return BatchSource(parts.order, ShardReader(*parts.shards), parts.split, rank=dist.get_rank(), sequence_length=length)


def _order(task: TrainTask, manifest: ShardManifest, start: Start) -> SampleOrder:
    settings, branch = task.settings, start.branch.position if start.branch else None
    return sample_order(settings.arm, task.spec, manifest, window_rows=settings.train.shuffle_window, branch_position=branch)


def _shape(task: TrainTask) -> ModelShape:
    train = task.settings.train
    return trained_shape(ImportedModel.of(task.model_folder), lora=train.lora, freeze=train.freeze)


def _passes(task: TrainTask, manifest: ShardManifest, device: torch.device) -> Passes:
    settings = task.settings
    return Passes(
        shape=_shape(task),
        train=settings.train,
        deepspeed=settings.deepspeed,
        num_workers=dist.get_world_size(),
        rows=BatchSplit(settings.train.global_batch_size, dist.get_world_size(), 1).rows_per_worker,
        row_tokens=manifest.sequence_length,
        device=device,
    )


def _build_engine(
    task: TrainTask,
    model: PreTrainedModel,
    start: Start,
    split: BatchSplit,
    sequence_length: int,
    device: torch.device,
    watch: Watch,
) -> Engine:
    settings = task.settings
    watch.enter("engine")
    engine = Engine(
        model,
        train=settings.train.model_copy(update={"micro_batch_size": split.micro_batch}),
        deepspeed=settings.deepspeed,
        load_universal=start.resume is not None and start.resume.converted,
        accumulation_steps=split.accumulation_steps,
        device=device,
        row_tokens=split.micro_batch * sequence_length,
        seed=task.spec.seed,
        on_wait=watch.move,
    )
    engine.on_phase = watch.enter
    return engine


def _prove_isolation(engine: Engine, manifest: ShardManifest, settings: TrainConfig) -> SelfTest:
    """Prove that documents are isolated; on compiled layers if there are any, else or if that fails on uncompiled ones."""

    def prove() -> SelfTest:
        return run_self_test(
            engine.score,
            engine.input_gradient,
            vocabulary_size=manifest.vocabulary_size,
            heads=engine.heads,
            kernel=engine.kernel,
            precision=settings.precision,
            device=engine.device,
        )

    proof = prove()
    if not proof.passed and settings.compile == "auto" and engine.runs_compiled:
        engine.uncompile(f"the isolation self-test failed on compiled layers: {describe(proof)}")
        proof = prove()
    require_isolation(proof, compiled=engine.runs_compiled)
    return proof


def _load(
    task: TrainTask, engine: Engine, start: Start, manifest: ShardManifest
) -> tuple[RunProgress, LoadedCheckpoint | None]:
    """Load the checkpoint if there is one, and check that its state is the one saved."""
    if start.resume is None:
        return RunProgress(), None
    loaded = load_checkpoint(start.resume, engine, manifest.vocabulary_size, task.settings.train.precision)
    # After the guard: it compares the moments that were saved. From then on a stage with fresh moments has none.
    if not start.resume.own and task.spec.optimizer == "fresh":
        engine.forget_optimizer()
    return start.resume.manifest.progress, loaded


def _announce(
    task: TrainTask,
    engine: Engine,
    split: BatchSplit,
    progress: RunProgress,
    proof: SelfTest | None,
    loaded: LoadedCheckpoint | None,
    *,
    resumed: bool,
    started: str,
) -> RunAttempt:
    """Record this start: its first step, its workers and what they run on."""
    dtype = PRECISIONS[task.settings.train.precision].dtype
    peak = torch.tensor(measure_peak_flops(engine.device, dtype), dtype=torch.float64, device=engine.device)
    dist.all_reduce(peak)
    folder = Path(task.run_folder) / ATTEMPTS
    # Counted by one rank: the others' view of a shared filesystem may lag behind.
    number = [len(list(folder.glob("attempt-*.json"))) + 1 if dist.get_rank() == 0 else 0]
    dist.broadcast_object_list(number)
    pids: list[int] = [0] * split.workers
    dist.all_gather_object(pids, os.getpid())
    attempt = RunAttempt(
        attempt=number[0],
        first_step=progress.step,
        first_tokens=progress.tokens_seen,
        started=started,
        resumed=resumed,
        world_size=split.workers,
        worker_pids=tuple(pids),
        kernel=engine.kernel,
        projections=engine.projections,
        loss_kernel=engine.loss_kernel,
        peak_flops_per_s=float(peak),
        peak_basis=peak_basis(engine.device, dtype),
        flops_basis=FLOPS_BASIS,
        self_test=proof,
        compiled=engine.compiled,
        loaded=loaded,
        micro_batch_size=split.micro_batch,
        dropout=engine.dropout,
        idle_share=split.idle_share,
    )
    if dist.get_rank() == 0:
        write_atomic(folder / f"attempt-{attempt.attempt:04d}.json", attempt.to_json())
    return attempt


def _guards(task: TrainTask, start: Start, progress: RunProgress, attempt: RunAttempt) -> Guards:
    """The guards, seeded with the losses that led here: of a branch, those of its trunk up to the branch point; collective."""
    config = task.settings.train.guards
    losses: list[list[float]] = [[]]
    if dist.get_rank() == 0:
        trunk = [(task.parent_folder, start.branch.step)] if task.parent_folder and start.branch else []
        ends = [*trunk, (task.run_folder, progress.step)]
        steps = (step for folder, last in ends for step in walk_steps(Path(folder)) if step.step <= last)
        # Those of skipped steps too, as while it ran: their loss may be finite where their gradient was not.
        losses[0] = [step.loss for step in steps if math.isfinite(step.loss)][-config.spike_window :]
    # Read by one rank: the others' view of a shared filesystem may lag, and all ranks must make the same decisions.
    dist.broadcast_object_list(losses)
    return Guards(config, attempt=attempt.attempt, history=losses[0])


def _flops(shape: ModelShape, batch: Batch) -> float:
    """Model FLOPs of a batch over all workers, using the mean keys of this worker's documents."""
    return batch.slots * flops_per_token(shape, batch.attended / 2)
