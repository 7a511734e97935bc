"""The models a run produces: the export of its budget, and along the way trajectory points and the weights of an average."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import is_mirrored, lines, push_folder, write_index
from cpt_ray.errors import CptRayError, problem_of
from cpt_ray.model.exports.export import export_model
from cpt_ray.model.precision import PRECISIONS
from cpt_ray.records import RunProgress, RunRecord, ShardManifest, TrainingRecord
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.model_card import run_card
from cpt_ray.train.monitor.metrics import bring_run
from cpt_ray.train.order.mixes import drawn_sources, realized_mixes
from cpt_ray.train.order.samples import SampleOrder
from cpt_ray.train.runs.record import run_record, training_record
from cpt_ray.train.runs.specs import trajectory_specs
from cpt_ray.train.task import EXPORT, TrainTask, averaged_folder, point_folder

_MEET_S = 2.0


class Exports:
    """Writes exports and records of one run; every call is collective.

    Args:
        task: The run.
        engine: Holds the weights.
        order: The order of the run's rows.
        shards: The manifest of their shards.
        tokens_spent: Marks up to there have been exported.
        on_wait: Called every few seconds while rank 0 writes.
    """

    def __init__(
        self,
        task: TrainTask,
        engine: Engine,
        order: SampleOrder,
        shards: ShardManifest,
        *,
        tokens_spent: int,
        on_wait: Callable[[], None],
    ) -> None:
        self._on_wait = on_wait
        self._task, self._engine, self._order, self._shards = task, engine, order, shards
        self._folder = Path(task.run_folder)
        self._saved_tokens = tokens_spent
        self._dtype = PRECISIONS[task.settings.train.export_precision].dtype

    def points(self, progress: RunProgress) -> None:
        """Export the model at the trajectory marks passed since the last checkpoint, and where an average needs it."""
        before, self._saved_tokens = self._saved_tokens, progress.tokens_spent
        specs = trajectory_specs([self._task.spec])
        points = [point for point in specs if before < point.stop_tokens <= progress.tokens_spent]
        marks = [mark for mark in self._task.spec.average_tokens if before < mark <= progress.tokens_spent]
        if not points and not marks:
            return
        state = self._engine.whole_state(self._dtype)

        def export() -> None:
            self._task.require_lease()
            # A point costs no training beyond its run's: it starts where it ends.
            training = self._training(progress).model_copy(update={"start_tokens": progress.tokens_seen})
            for point in points:
                folder = point_folder(self._folder, point.stop_tokens)
                self._write(state, folder, run_record(point, training, export=folder / EXPORT, annealed=False), training)
            for mark in marks:
                kept = averaged_folder(self._folder, mark)
                self._export(state, kept, card=f"Kept for an average of {self._task.spec.name}.\n")

        self._on_rank_0(export)

    def finish(self, progress: RunProgress, *, close: Callable[[], None]) -> None:
        """Export a budget, then write the run's record.

        Args:
            progress: Where the run ended.
            close: Writes the measurements, including those of gathering the weights; the record sums them up.
        """
        spec = self._task.spec
        is_budget = spec.budget_tokens is not None
        state = self._engine.whole_state(self._dtype) if is_budget else None
        close()
        if is_mirrored(self._folder):
            lines.flush()
            dist.barrier()  # the record sums up what all workers have written, on whatever nodes
            bring_run(self._folder)

        def export() -> None:
            self._task.require_lease()
            training = self._training(progress)
            annealed = spec.schedule.decay_start_tokens is not None
            record = run_record(spec, training, export=self._folder / EXPORT if is_budget else None, annealed=annealed)
            self._write(state, self._folder, record, training)

        self._on_rank_0(export)

    def _on_rank_0(self, work: Callable[[], None]) -> None:
        """Let rank 0 work while all ranks meet every few seconds: a collective that waited for the end would time out.

        Raises:
            CptRayError: What `work` raised, on every rank.
            RuntimeError: On the other ranks, if it was something else, which rank 0 raises.
        """
        errors: list[Exception] = []

        def run() -> None:
            try:
                work()
            except Exception as error:  # raised below: an exception in a thread is only printed
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True, name="export") if dist.get_rank() == 0 else None
        if thread is not None:
            thread.start()
        at_work = True
        while at_work:
            if thread is not None:
                thread.join(_MEET_S)
            flag = torch.tensor(int(thread is not None and thread.is_alive()), device=self._engine.device)
            dist.all_reduce(flag)  # the other ranks wait here, until rank 0's thread has ended or for `_MEET_S`
            at_work = bool(flag)
            self._on_wait()
        known: list[CptRayError | None] = [errors[0] if errors and isinstance(errors[0], CptRayError) else None]
        failed = [problem_of(errors[0]) if errors else None]
        dist.broadcast_object_list(known)
        dist.broadcast_object_list(failed)
        if failed[0] is not None:
            raise known[0] or (errors[0] if errors else RuntimeError(f"rank 0: {failed[0]}"))

    def _training(self, progress: RunProgress) -> TrainingRecord:
        position = progress.position
        mixes, drawn = realized_mixes(self._order, position), drawn_sources(self._order, position, self._shards)
        return training_record(self._folder, self._task.spec, progress, mixes, drawn)

    def _write(self, state: dict[str, torch.Tensor] | None, folder: Path, record: RunRecord, training: TrainingRecord) -> None:
        if state is not None:
            self._export(state, folder / EXPORT, card=run_card(record, training, self._task, self._shards))
        write_atomic(folder / RunRecord.FILE, record.to_json())

    def _export(self, state: dict[str, torch.Tensor], folder: Path, *, card: str) -> None:
        export_model(
            self._engine.lm,
            state,
            tokenizer=Path(self._task.model_folder),
            folder=folder,
            card=card,
            end_id=self._shards.separator_id,
            begin_id=self._shards.bos_id,
        )
        # Described here: the driver, which watches all runs, would read gigabytes again to record them.
        push_folder(folder) if is_mirrored(folder) else write_index(folder)
