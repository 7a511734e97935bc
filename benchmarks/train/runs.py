"""Processes of a training benchmark: our command as a user runs it, and the peers on the same rows.

In: a study file and the shape of a step. Out: `Measured`, the steps of one process, alone or in turns with another. A peer
whose losses differ from ours did different work: an error, not a figure.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure.turns import REPOSITORY, Side, run_alone, run_in_turns
from benchmarks.train.peers import Settings
from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.load import load_study
from cpt_ray.config.sections.train import TrainConfig
from cpt_ray.records import StepMetrics
from cpt_ray.train.monitor.metrics import read_metrics

LOSS_TOLERANCE = 0.005
"""Relative. bf16 and summation order shift a loss by 1e-3; a leaking mask or a different optimizer by far more."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Amount of training: rows of `length` tokens per step, in micro-batches, for `warmup + steps` steps."""

    length: int
    rows: int
    micro_rows: int
    warmup: int
    steps: int

    @property
    def slots(self) -> int:
        """Tokens per step, padding included."""
        return self.length * self.rows

    @property
    def budget(self) -> int:
        """Loss-bearing tokens up to the middle of the last step: document starts and padding take about 1 % of the slots."""
        return int((self.warmup + self.steps - 0.5) * self.slots * 0.99)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One process: its measured steps and all losses."""

    name: str
    numbers: list[int]
    """Which of the run's steps were measured, from 0."""
    step_s: list[float]
    losses: list[float]
    cpu_s: list[float]
    """User and system seconds of each measured step over all processes; empty if the side ran alone."""
    load: float
    """One-minute load average before the start: above 1, the machine was not quiet."""
    run: Path | None = None

    @property
    def median_s(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.step_s)

    def raw(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "name": self.name,
            "step_s": [round(second, 3) for second in self.step_s],
            "cpu_s": [round(second, 2) for second in self.cpu_s],
            "load": round(self.load, 2),
        }


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """A side that trains, and a reader of its results: losses and seconds of all steps, and the folder if the run is ours."""

    side: Side
    read: Callable[[], tuple[list[float], list[float], Path | None]]


def measure_alone(trainer: Trainer, shape: Shape) -> Measured:
    """Train alone; step seconds are the ones the process reports."""
    load = os.getloadavg()[0]
    run_alone(trainer.side)
    losses, seconds, run = trainer.read()
    numbers = list(range(shape.warmup, shape.warmup + shape.steps))
    return Measured(
        name=trainer.side.name, numbers=numbers, step_s=seconds[shape.warmup :], losses=losses, cpu_s=[], load=load, run=run
    )  # fmt: skip


def measure_in_turns(ours: Trainer, other: Trainer, shape: Shape) -> tuple[Measured, Measured]:
    """Train both in turns.

    Raises:
        RuntimeError: If one fails, or their losses differ.
    """
    load = os.getloadavg()[0]
    turns = run_in_turns((ours.side, other.side), warmup=shape.warmup, steps=shape.steps)
    found = []
    for trainer, seen in zip((ours, other), turns, strict=True):
        losses, _, run = trainer.read()
        found.append(
            Measured(
                name=trainer.side.name, numbers=seen.numbers, step_s=seen.step_s, losses=losses, cpu_s=seen.cpu_s, load=load,
                run=run,
            )
        )  # fmt: skip
    require_equal_work({one.name: one.losses for one in found if one.losses})
    return found[0], found[1]


class Bench:
    """Prepares once and makes trainers.

    Args:
        study: The study file.
        root: Root folder of its artifacts. Two of our runs that take turns need separate roots: a study has one driver.
        environment: Environment of every training process; Ray's daemons get the plain one and set up their workers'.
        common: Overrides of the study for every run.
    """

    def __init__(self, study: Path, root: Path, environment: dict[str, str], common: tuple[str, ...] = ()) -> None:
        self.study, self.root, self.environment = study, root, environment
        self.common = (f"study.root={root}", *common)
        self.logs = root / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._count = itertools.count()

    def prepare(self, shape: Shape) -> None:
        """Prepare the rows of a shape, or reuse them."""
        run_alone(self._verb("prepare", "prepare", self._overrides(shape), dict(os.environ), steps_done=lambda: 0))

    def ours(self, name: str, shape: Shape, *, deepspeed: str, kind: str = "local", extra: tuple[str, ...] = ()) -> Trainer:
        """`cpt-ray train` from scratch: removes the results of an earlier one."""
        train = self.root / "train"
        shutil.rmtree(train, ignore_errors=True)
        kept = self.root / "kept" / f"{next(self._count):02d}-{name}"

        def steps_done() -> int:
            return sum(path.read_bytes().count(b"\n") for path in train.glob("*/metrics/attempt-*.jsonl"))

        def read() -> tuple[list[float], list[float], Path]:
            (run,) = (path.parent for path in train.glob("*/run.json"))
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(run, kept, ignore=shutil.ignore_patterns("*.safetensors", "checkpoints"))
            steps = read_metrics(kept)
            if len(steps) != shape.warmup + shape.steps:
                raise RuntimeError(f"{name}: {len(steps)} steps instead of {shape.warmup + shape.steps}")
            return [step.loss for step in steps], [step.step_s for step in steps], kept

        overrides = (*self._overrides(shape), f"train.deepspeed={REPOSITORY / deepspeed}", f"runtime.kind={kind}", *extra)
        environment = self.environment if kind == "local" else dict(os.environ)
        return Trainer(side=self._verb(name, "train", overrides, environment, steps_done=steps_done), read=read)

    def peer(self, name: str, shape: Shape, *, like: Measured, deepspeed: str) -> Trainer:
        """The peer `name` of `peers.py`, on the rows and at the learning rates of `like`."""
        if like.run is None:
            raise RuntimeError(f"{name}: nothing to take rows from")
        result = self.root / "peer.json"
        settings = peer_settings(
            read_metrics(like.run),
            load_study(self.study, self.common).train,
            model=next(self.root.glob("models/*/config.json")).parent,
            shards=self._shards(shape.length),
            micro_rows=shape.micro_rows,
            deepspeed=load_deepspeed(REPOSITORY / deepspeed).tree,
            result=result,
        )
        path = self.root / "peer-settings.json"
        path.write_text(json.dumps(asdict(settings)), encoding="utf-8")
        steps = Path(settings.steps)
        steps.unlink(missing_ok=True)

        def read() -> tuple[list[float], list[float], None]:
            found = json.loads(result.read_text(encoding="utf-8"))
            return found["loss"], found["step_s"], None

        side = Side(
            name=name,
            arguments=["-m", "benchmarks.train.peers", name, str(path)],
            environment={**self.environment, **_single_process()},
            log=self.logs / f"{name}.log",
            steps_done=lambda: steps.read_bytes().count(b"\n") if steps.exists() else 0,
        )
        return Trainer(side=side, read=read)

    def _overrides(self, shape: Shape) -> tuple[str, ...]:
        return (
            f"prepare.pack.sequence_length={shape.length}",
            f"train.budgets=[{shape.budget}]",
            f"train.global_batch_size={shape.rows}",
            f"train.micro_batch_size={shape.micro_rows}",
        )

    def _shards(self, length: int) -> Path:
        for path in self.root.glob("shards/*/manifest.json"):
            if json.loads(path.read_text(encoding="utf-8"))["sequence_length"] == length:
                return path.parent
        raise RuntimeError(f"no shards with rows of {length} tokens under {self.root}")

    def _verb(
        self, name: str, verb: str, overrides: tuple[str, ...], environment: dict[str, str], *, steps_done: Callable[[], int]
    ) -> Side:
        return Side(
            name=name,
            arguments=["-m", "cpt_ray.cli.main", verb, str(self.study), *self.common, *overrides],
            environment=environment,
            log=self.logs / f"{name}.log",
            steps_done=steps_done,
        )


def _single_process() -> dict[str, str]:
    return {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29571"}


def ratio(ours: Measured, other: Measured) -> tuple[float, list[float]]:
    """Our speed over the other's: the median over paired steps, and each of them."""
    steps = [b / a for a, b in zip(ours.step_s, other.step_s, strict=True)]
    return statistics.median(steps), [round(one, 4) for one in steps]


def peer_settings(
    steps: tuple[StepMetrics, ...],
    train: TrainConfig,
    *,
    model: Path,
    shards: Path,
    micro_rows: int,
    deepspeed: dict[str, Any],
    result: Path,
) -> Settings:
    """Settings with which a peer repeats our run: rows and learning rates from its metrics, the rest from its config."""
    return Settings(
        model=str(model),
        shards=str(shards),
        sample_ids=[list(step.sample_ids) for step in steps],
        learning_rates=[step.learning_rate for step in steps],
        micro_rows=micro_rows,
        deepspeed={**deepspeed, "steps_per_print": 10**9},
        adam={"beta1": train.beta1, "beta2": train.beta2, "epsilon": train.epsilon},
        weight_decay=train.weight_decay,
        clipping=train.gradient_clipping,
        threads=os.cpu_count() or 1,
        result=str(result),
        steps=str(result.with_suffix(".steps")),
    )  # fmt: skip


def require_equal_work(losses: dict[str, list[float]]) -> None:
    """Refuse variants whose losses differ from the first one's.

    Raises:
        RuntimeError: With every step that differs.
    """
    (first, expected), *others = losses.items()
    wrong = []
    for name, found in others:
        if len(found) != len(expected):
            wrong.append(f"{name} took {len(found)} steps, {first} {len(expected)}")
        wrong += [
            f"step {step}: {name} {one:.5f}, {first} {other:.5f}"
            for step, (one, other) in enumerate(zip(found, expected, strict=False), 1)
            if abs(one - other) > LOSS_TOLERANCE * abs(other)
        ]
    if wrong:
        raise RuntimeError("the variants did not do the same work:\n" + "\n".join(wrong))
