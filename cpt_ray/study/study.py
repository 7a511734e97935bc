"""A study, from raw text to report: runs the rooms in order, reuses what is whole, redoes what changed.

One driver at a time holds the study's lease. Every stage is resumable and leaves an artifact; a driver that died is followed by
the same command. Ray is started only if a stage has work for it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from cpt_ray.compare.comparison import compare
from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.load import dump_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.lease import FILE as LEASE_FILE
from cpt_ray.edges.lease import hold_lease
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError
from cpt_ray.plan.budget import StudyPlan, check_cooldowns, check_epochs, plan_study
from cpt_ray.plan.memory import MemoryPlan, estimate_memory
from cpt_ray.records import (
    Artifact,
    Comparison,
    DocumentsRecord,
    EvalRecord,
    ExamHit,
    HeldOutRecord,
    RunRecord,
    ShardManifest,
    TaskScan,
)
from cpt_ray.study import store
from cpt_ray.study.graph import StudyGraph, base_run, build_graph, deepspeed_path
from cpt_ray.study.shapes import model_shapes
from cpt_ray.study.store import Place
from cpt_ray.train.task import point_folder

DOCUMENTS, HELD_OUT, MANIFEST = "documents.json", "held_out.json", "manifest.json"
EVALUATION, RUN, ITEMS = "evaluation.json", "run.json", "items.jsonl"
SCAN, HITS = "exam_scan.json", "exam_hits.jsonl"


class Console(Protocol):
    """Where a study says what it does."""

    def say(self, text: str) -> None:
        """Print a line that stays."""

    def progress(self, text: str) -> None:
        """Show a line that the next one replaces."""


class Study:
    """A study open for work: `with Study(config, path, console) as study: study.prepare()`.

    Args:
        config: The validated study.
        config_path: The file that it came from; relative paths may start there.
        console: Where to say what happens.

    Raises:
        CptRayError: On entering, if the root cannot be written or another driver runs the study.
    """

    def __init__(self, config: StudyConfig, config_path: Path, console: Console) -> None:
        self.config, self.config_path, self.console = config, config_path, console
        self.root = Path(config.study.root).resolve()
        self.graph: StudyGraph = build_graph(config, config_path)
        self.attempt = 0
        self._stack = contextlib.ExitStack()
        self._has_ray = False

    def __enter__(self) -> Self:
        store.require_writable(self.root)
        self.attempt = self._stack.enter_context(hold_lease(self.root)).attempt
        write_atomic(self.root / "study.yaml", dump_study(self.config))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.close()

    def reuse(self, spot: Place) -> Artifact | None:
        """The artifact at `spot` if it is whole, and say so; else None."""
        found = store.find(spot)
        if found is not None:
            self.console.say(f"  reused  {spot.label}  (made in {found.wall_s:.0f} s)")
        return found

    def make(self, spot: Place, build: Callable[[Path], None], *, patterns: tuple[str, ...]) -> Artifact:
        """Return the artifact at `spot`, building it if it is not whole.

        Args:
            spot: Its place.
            build: Fills the folder that it is given; must go on from what an earlier try left there.
            patterns: Globs of the files that belong to the artifact.
        """
        found = self.reuse(spot)
        if found is not None:
            return found
        started = time.perf_counter()
        spot.folder.mkdir(parents=True, exist_ok=True)
        self.console.progress(f"  making  {spot.label}")
        build(spot.folder)
        artifact = store.commit(spot, patterns=patterns, started=started)
        self.console.say(f"  made    {spot.label}  in {artifact.wall_s:.0f} s")
        return artifact

    def need_ray(self) -> None:
        """Start or join Ray, once; it ends with the study."""
        if not self._has_ray:
            from cpt_ray.edges.ray_runtime import ray_session

            self.console.progress("  starting Ray")
            self._stack.enter_context(ray_session(self.config.runtime))
            self._has_ray = True

    # Records of finished stages.

    def documents(self) -> DocumentsRecord:
        """What cleaning and duplicate removal left."""
        return DocumentsRecord.load(self._whole(self.graph.documents, "prepare") / DOCUMENTS)

    def held_out(self) -> HeldOutRecord:
        """The held-out sets."""
        return HeldOutRecord.load(self._whole(self.graph.held_out, "prepare") / HELD_OUT)

    def shards(self, model: str) -> ShardManifest:
        """The packed shards for a model's tokenizer."""
        return ShardManifest.load(self._whole(self.graph.shards[model], "prepare") / MANIFEST)

    def exam_scans(self, model: str) -> tuple[list[TaskScan], list[ExamHit]]:
        """What of exams was found in the text for a model's tokenizer: before it was packed, then in what is packed."""
        folders = [self._whole(self.graph.shards[model], "prepare")]
        if model in self.graph.late_scans:
            folders.append(self._whole(self.graph.late_scans[model], "prepare"))
        scans = [TaskScan.model_validate(row) for folder in folders for row in json.loads((folder / SCAN).read_text())]
        lines = [line for folder in folders for line in (folder / HITS).read_text().splitlines()]
        return scans, [ExamHit.from_json(line) for line in lines]

    def runs(self) -> list[RunRecord]:
        """The base of each model, then all training runs, parents first, then their trajectory points."""
        bases = [self.base_record(model.name) for model in self.config.models]
        runs = [RunRecord.load(self._whole(spot, "train") / RUN) for spot in self.graph.runs.values()]
        points = [
            RunRecord.load(point_folder(self.graph.runs[str(point.parent)].folder, point.stop_tokens) / RUN)
            for point in self.graph.points.values()
        ]
        return bases + runs + points

    def evaluations(self) -> list[EvalRecord]:
        """The scores of bases and budgets."""
        return [EvalRecord.load(self._whole(spot, "evaluate") / EVALUATION) for spot in self.graph.evaluations.values()]

    def comparison(self) -> Comparison:
        """What the study found, from records alone."""
        # Scores first: what is missing of a study that was only prepared is said from its end.
        evaluations, runs = self.evaluations(), self.runs()
        return compare(
            evaluations,
            {name: spot.folder for name, spot in self.graph.evaluations.items()},
            runs,
            self.config.compare,
            control_arms=frozenset(name for name, arm in self.config.arms.items() if arm.role == "control"),
            tokens_paid=sum(run.tokens_paid for run in runs),
        )

    def base_record(self, model: str) -> RunRecord:
        """The untrained base as a run, so that it is scored and tabled like any other."""
        return RunRecord(
            run=base_run(model),
            kind="base",
            model=model,
            arm=None,
            seed=None,
            budget_tokens=None,
            parent=None,
            start_tokens=0,
            tokens_seen=0,
            slots_seen=0,
            position=0,
            steps=0,
            sequence_length=self.config.prepare.pack.sequence_length,
            world_sizes=(),
            worker_pids=(),
            attempts=0,
            first_steps=(),
            flops=0.0,
            mean_tokens_per_s=0.0,
            mfu=None,
            peak_flops_per_s=None,
            wall_s=0.0,
            self_test=None,
            metrics_path=None,
            export_path=str(self.graph.models[model].folder),
            annealed=True,
        )

    def plan(self) -> tuple[StudyPlan, list[MemoryPlan]]:
        """The study as arithmetic: counted where shards exist, estimated where they do not."""
        config, specs = self.config, list(self.graph.specs.values())
        shapes = model_shapes(config, self.graph.models)
        first = config.models[0].name
        shards = self.shards(first) if store.find(self.graph.shards[first]) else None
        names = [source.name for source in config.sources]
        plan = plan_study(
            config,
            shapes,
            specs,
            {name: shards.loss_tokens(name) for name in names} if shards else None,
            rows={name: shards.rows(name) for name in names} if shards else None,
        )
        tree = load_deepspeed(deepspeed_path(config, self.config_path))
        memory = [
            estimate_memory(
                name, shape=shape, deepspeed=tree, train=config.train, num_workers=config.runtime.workers.min, specs=specs
            )
            for name, shape in shapes.items()
        ]
        return plan, memory

    def require_budgets(self) -> None:
        """Refuse budgets that pass over a source more often than allowed, or that end before they have cooled down.

        Raises:
            ConfigError: Naming the budget, and the key to change.
        """
        plan, _ = self.plan()
        check_cooldowns(plan)
        check_epochs(plan)

    @property
    def lease_path(self) -> Path:
        """The lease that a commit is checked against."""
        return self.root / LEASE_FILE

    def _whole(self, spot: Place, verb: str) -> Path:
        if store.find(spot) is None:
            raise ConfigError(
                f"{spot.label} is not there yet under {self.root}",
                fix=f"run cpt-ray {verb} {self.config_path} first, with the same overrides",
            )
        return spot.folder
