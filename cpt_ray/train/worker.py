"""What one training worker does with a task: build, prove isolation, resume, train, export, and write the run's record.

The same function runs in a Ray Train worker and in the driver's own process. Files under the run's folder:

    checkpoints/step-*/     committed states            attempts/attempt-*.json   who started, from which step
    metrics/attempt-*.jsonl one line per step           export/                   HF folder, for budgets
    trajectory/MARK/        record and HF folder of the model as it stood at a mark
    run.json                the RunRecord, written last
"""

from __future__ import annotations

import os
import warnings
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from cpt_ray.config.deepspeed import load_deepspeed, zero_stage
from cpt_ray.config.load import parse_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.data.rows.shards import ShardReader
from cpt_ray.edges.lease import require_lease
from cpt_ray.edges.storage import write_atomic
from cpt_ray.model.base import load_model
from cpt_ray.model.export import export_model
from cpt_ray.model.parameters import FLOPS_BASIS, adapted_shape, flops_per_token
from cpt_ray.model.precision import PRECISIONS
from cpt_ray.model.self_test import require_isolation, run_self_test
from cpt_ray.records import ImportedModel, LoadedCheckpoint, RunAttempt, RunEvent, RunRecord, SelfTest, ShardManifest
from cpt_ray.train.checkpoint.resume import branch_position, describe_resume, find_checkpoint, load_checkpoint
from cpt_ray.train.checkpoint.saver import Saver, stopped_at
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.loop import Progress, train
from cpt_ray.train.model_card import run_card
from cpt_ray.train.monitor.held_out import watch_held_out
from cpt_ray.train.monitor.metrics import ATTEMPTS, read_metrics
from cpt_ray.train.monitor.peak import measure_peak_flops, peak_basis
from cpt_ray.train.monitor.step_checks import Guards
from cpt_ray.train.monitor.watch import Watch, costs_of_watching, intervals
from cpt_ray.train.order.batch_split import accumulation_steps, describe_idle, idle_share
from cpt_ray.train.order.batches import Batch, BatchSource
from cpt_ray.train.order.mixes import realized_mixes, sample_order
from cpt_ray.train.runs.schedule import learning_rate
from cpt_ray.train.runs.specs import trajectory_specs
from cpt_ray.train.shutdown import AskPreemption
from cpt_ray.train.task import RUN_FILE, TrainTask, point_folder

EXPORT = "export"


def run_worker(task: TrainTask, *, ask_preemption: AskPreemption | None = None) -> None:
    """Train one run to its end; collective over the process group that exists, or alone if there is none.

    Args:
        task: The run.
        ask_preemption: How to learn that a node of the group will be taken away.

    Raises:
        TrainingStopped: On every rank, if a stop was asked for; what was trained is saved.
        CptRayError: On every rank alike, for anything that a restart would not fix.
    """
    device = _prepare_process(task)
    config = parse_study(task.config, place="the study's saved config")
    watch = Watch(Path(task.run_folder), device)
    try:
        _train(_Run(task, config, device, watch), ask_preemption)
    finally:
        watch.stop()


def _train(run: _Run, ask_preemption: AskPreemption | None) -> None:
    task, watch = run.task, run.watch
    progress, attempt = run.resume(ask_preemption)
    watch.begin(
        progress,
        attempt=attempt.attempt,
        every=intervals(run.config.train.watch, task.spec.stop_tokens - task.spec.start_tokens, run.held_out),
        measure_held_out=partial(run.held_out.measure, run.engine.nats, attempt=attempt.attempt, on_pass=watch.move),
    )
    if (text := describe_resume(attempt)) is not None:
        at = {"step": progress.step, "tokens_seen": progress.tokens_seen}
        watch.report(RunEvent(kind="resume", attempt=attempt.attempt, text=text, **at))
    progress = train(
        progress,
        stop_tokens=task.spec.stop_tokens,
        engine=run.engine,
        batch_at=run.batches.at,
        learning_rate=partial(learning_rate, schedule=task.spec.schedule),
        flops=run.flops,
        peak_flops_per_s=attempt.peak_flops_per_s,
        guards=run.guards(progress, attempt),
        enter=watch.enter,
        log=watch.log,
        report=watch.report,
        observe=watch.observe,
        checkpoint_due=run.checkpoint_due,
        save=run.save,
        attempt=attempt.attempt,
        requested=run.saver.requested,
    )
    stopped = progress.tokens_seen < task.spec.stop_tokens
    if stopped:
        watch.close()
    else:
        run.finish(progress)
    run.engine.close()
    if stopped:
        raise stopped_at(task, progress)


class _Run:
    """The parts of one run on one worker, built once."""

    def __init__(self, task: TrainTask, config: StudyConfig, device: torch.device, watch: Watch) -> None:
        self.task, self.config, self.device, self.watch = task, config, device, watch
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.folder = Path(task.run_folder)
        trust = next(model for model in config.models if model.name == task.spec.model).trust_remote_code
        self._shards = ShardManifest.of(task.shards_folder)
        reader = ShardReader(Path(task.shards_folder), self._shards)
        self.order = sample_order(
            config.arms[task.spec.arm],
            task.spec,
            self._shards,
            window_rows=config.train.shuffle_window,
            branch_position=branch_position(task, rank=self.rank),
        )
        self.batches = BatchSource(
            self.order,
            reader,
            sequence_length=self._shards.sequence_length,
            rank=self.rank,
            world_size=self.world_size,
            global_batch_size=config.train.global_batch_size,
            micro_batch_size=config.train.micro_batch_size,
        )
        self._deal = (config.train.global_batch_size, self.world_size, config.train.micro_batch_size)
        if self.rank == 0 and (idle := describe_idle(*self._deal)):
            warnings.warn(idle, stacklevel=2)
        self._shape = adapted_shape(ImportedModel.of(task.model_folder), config.train.lora)
        self._saved_tokens = 0
        self.held_out = watch_held_out(
            task.held_out_folder,
            Path(task.model_folder),
            documents=config.train.watch.held_out_documents,
            prefix=self._shards.prefix_id,
            window=self._shards.sequence_length,
            rows=config.train.micro_batch_size,
        )
        watch.enter("resume")
        tree = load_deepspeed(task.deepspeed_path)
        # Before the engine, because DeepSpeed must be told at its start of a checkpoint by another number of workers.
        self._found = find_checkpoint(
            task, zero_stage=zero_stage(tree), precision=config.train.precision, rank=self.rank, world_size=self.world_size
        )
        watch.enter("load")
        model = load_model(task.model_folder, precision=config.train.precision, trust_remote_code=trust)
        watch.enter("engine")
        self.engine = Engine(
            model,
            train=config.train,
            deepspeed_json=tree,
            load_universal=self._found is not None and self._found.converted,
            accumulation_steps=accumulation_steps(*self._deal),
            device=device,
            seed=task.spec.seed,
        )
        self.engine.on_phase = watch.enter

    def flops(self, batch: Batch) -> float:
        """Model FLOPs of a batch over all workers, with the keys that this worker's documents attend."""
        return batch.slots * flops_per_token(self._shape, batch.attended / 2)

    def resume(self, ask_preemption: AskPreemption | None) -> tuple[Progress, RunAttempt]:
        """Prove isolation, load what was found and check that it is what was saved, and say so."""
        self.watch.enter("self_test")
        proof = self._prove_isolation()
        self.watch.enter("resume")
        progress, loaded = Progress(), None
        if self._found is not None:
            loaded = load_checkpoint(self._found, self.engine, self._shards.vocabulary_size, self.config.train.precision)
            if not self._found.own and self.task.spec.optimizer == "fresh":
                self.engine.forget_optimizer()
            manifest = self._found.manifest
            progress = Progress(
                manifest.step,
                manifest.position,
                manifest.tokens_seen,
                manifest.slots_seen,
                manifest.steps_skipped,
                manifest.tokens_skipped,
            )
        self._saved_tokens = progress.tokens_seen
        attempt = self._announce(progress, proof, loaded)
        self.saver = Saver(
            self.task,
            self.config,
            self.engine,
            attempt=attempt.attempt,
            vocabulary_size=self._shards.vocabulary_size,
            ask_preemption=ask_preemption,
        )
        self.saver.stop_before_training(progress)
        return progress, attempt

    def guards(self, progress: Progress, attempt: RunAttempt) -> Guards:
        """The guards, knowing the losses that led here; collective."""
        config = self.config.train.guards
        losses: list[float] = []
        if self.rank == 0:
            folders = [Path(self.task.parent_folder)] if self.task.parent_folder else []
            steps = [step for folder in (*folders, self.folder) for step in read_metrics(folder)]
            losses = [step.loss for step in steps if step.step <= progress.step and not step.skipped][-config.spike_window :]
        # Read by one rank: the others' view of a shared filesystem may lag behind, and all must decide alike.
        known = [losses]
        dist.broadcast_object_list(known)
        return Guards(config, attempt=attempt.attempt, history=known[0])

    def checkpoint_due(self, before: Progress, after: Progress) -> bool:
        """Whether `after` is the first step past an interval or a branch point; a budget's end is exported instead."""
        spec = self.task.spec
        marks = (*spec.branch_tokens, *spec.trajectory_tokens)
        if any(before.tokens_seen < mark <= after.tokens_seen for mark in marks):
            return True
        if after.tokens_seen >= spec.stop_tokens:
            return False
        every = self.config.train.checkpoint_every
        return before.tokens_seen // every < after.tokens_seen // every

    def save(self, progress: Progress) -> None:
        """Save a checkpoint; collective. Points come first: who resumes from it does not pass their marks again."""
        self._export_points(progress)
        self.saver.save(progress)

    def finish(self, progress: Progress) -> None:
        """Export a budget, then write the run's record; collective."""
        self.saver.drain()
        self.watch.enter("export")
        dtype = PRECISIONS[self.config.train.export_precision].dtype
        state = self.engine.whole_state(dtype) if self.task.spec.budget_tokens is not None else None
        self.watch.close()
        if self.rank == 0:
            require_lease(Path(self.task.lease_path), self.task.lease_attempt)
            record = self._record(progress)
            if state is not None:
                self._export(state, record)
            write_atomic(self.folder / RUN_FILE, record.to_json())
        dist.barrier()

    def _export_points(self, progress: Progress) -> None:
        """Export the model at the trajectory marks that were passed since the last checkpoint; collective."""
        points = [p for p in trajectory_specs([self.task.spec]) if self._saved_tokens < p.stop_tokens <= progress.tokens_seen]
        self._saved_tokens = progress.tokens_seen
        if not points:
            return
        state = self.engine.whole_state(PRECISIONS[self.config.train.export_precision].dtype)
        if self.rank == 0:
            require_lease(Path(self.task.lease_path), self.task.lease_attempt)
            for point in points:
                folder = point_folder(self.folder, point.stop_tokens)
                facts = {
                    "run": point.name,
                    "kind": point.kind,
                    "parent": point.parent,
                    "start_tokens": progress.tokens_seen,
                    "budget_tokens": None,
                    "budget_flops": None,
                    "metrics_path": None,
                    "export_path": str(folder / EXPORT),
                    "annealed": False,
                }
                record = self._record(progress).model_copy(update=facts)
                self._export(state, record)
                write_atomic(folder / RUN_FILE, record.to_json())
        dist.barrier()

    def _export(self, state: dict[str, torch.Tensor], record: RunRecord) -> None:
        tokenizer, folder = Path(self.task.model_folder), Path(str(record.export_path))
        stage = self.engine.zero_stage
        card = run_card(record, self.config, self.task, shards=self._shards, zero_stage=stage)
        export_model(self.engine.lm, state, tokenizer=tokenizer, folder=folder, card=card)

    def _prove_isolation(self) -> SelfTest | None:
        if self.config.train.isolation == "none":
            return None
        proof = run_self_test(
            self.engine.score,
            vocabulary_size=self._shards.vocabulary_size,
            heads=self.engine.heads,
            kernel=self.engine.kernel,
            precision=self.config.train.precision,
            device=self.device,
        )
        require_isolation(proof)
        return proof

    def _announce(self, progress: Progress, proof: SelfTest | None, loaded: LoadedCheckpoint | None) -> RunAttempt:
        dtype = PRECISIONS[self.config.train.precision].dtype
        peak = torch.tensor(measure_peak_flops(self.device, dtype), dtype=torch.float64, device=self.device)
        dist.all_reduce(peak)
        folder = self.folder / ATTEMPTS
        number = [len(list(folder.glob("attempt-*.json"))) + 1 if self.rank == 0 else 0]
        dist.broadcast_object_list(number)
        pids: list[int] = [0] * self.world_size
        dist.all_gather_object(pids, os.getpid())
        attempt = RunAttempt(
            attempt=number[0],
            first_step=progress.step,
            first_tokens=progress.tokens_seen,
            resumed=self._found is not None and self._found.own,
            world_size=self.world_size,
            worker_pids=tuple(pids),
            kernel=self.engine.kernel,
            peak_flops_per_s=float(peak),
            peak_basis=peak_basis(self.device, dtype),
            flops_basis=FLOPS_BASIS,
            self_test=proof,
            loaded=loaded,
            idle_share=idle_share(*self._deal),
        )
        if self.rank == 0:
            write_atomic(folder / f"attempt-{attempt.attempt:04d}.json", attempt.to_json())
        return attempt

    def _record(self, progress: Progress) -> RunRecord:
        spec = self.task.spec
        attempts = [RunAttempt.load(path) for path in sorted((self.folder / ATTEMPTS).glob("attempt-*.json"))]
        steps = read_metrics(self.folder)
        seconds = sum(step.step_s for step in steps)
        tokens = sum(step.tokens_per_s * step.step_s for step in steps)
        peak = attempts[-1].peak_flops_per_s
        flops = sum(step.flops for step in steps)
        return RunRecord(
            run=spec.name,
            kind=spec.kind,
            model=spec.model,
            arm=spec.arm,
            seed=spec.seed,
            budget_tokens=spec.budget_tokens,
            parent=spec.parent,
            start_tokens=attempts[0].first_tokens,
            tokens_seen=progress.tokens_seen,
            slots_seen=progress.slots_seen,
            position=progress.position,
            steps=progress.step,
            sequence_length=self._shards.sequence_length,
            world_sizes=tuple(attempt.world_size for attempt in attempts),
            worker_pids=tuple(pid for attempt in attempts for pid in attempt.worker_pids),
            attempts=len(attempts),
            first_steps=tuple(attempt.first_step for attempt in attempts),
            flops=flops,
            mean_tokens_per_s=tokens / seconds if seconds else 0.0,
            mfu=flops / seconds / peak if seconds else None,
            peak_flops_per_s=peak,
            peak_basis=attempts[-1].peak_basis,
            flops_basis=attempts[-1].flops_basis,
            wall_s=seconds,
            **costs_of_watching(self.folder),
            data_wait_s=sum(step.data_wait_s for step in steps),
            steps_skipped=progress.steps_skipped,
            tokens_skipped=progress.tokens_skipped,
            spikes=sum(step.spike for step in steps),
            self_test=attempts[-1].self_test,
            metrics_path="metrics",
            export_path=str(self.folder / EXPORT) if spec.budget_tokens is not None else None,
            annealed=spec.schedule.decay_start_tokens is not None,
            schedule=spec.schedule,
            optimizer=spec.optimizer,
            budget_flops=spec.budget_flops,
            mixes=realized_mixes(self.order, progress.position),
        )


def _prepare_process(task: TrainTask) -> torch.device:
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    if not dist.is_initialized():
        for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
            os.environ[name] = value
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
