"""Processes of a training benchmark: our command as a user runs it, and the peers on the very rows that it trained on.

In: a study file and the shape of a step. Out: `Measured`, the steps of one process. A peer whose losses differ from ours did
other work, and is an error instead of a figure.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from train_peers import Settings

from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.load import load_study
from cpt_ray.config.train import TrainConfig
from cpt_ray.records import StepMetrics
from cpt_ray.train.metrics import read_metrics

REPOSITORY = Path(__file__).parents[1]
LOSS_TOLERANCE = 0.005
"""Relative. bf16 and other orders of summing move a loss by 1e-3; a leaking mask or another optimizer by far more."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much is trained: rows of `length` tokens per step, in micro-batches, for `warmup + steps` steps."""

    length: int
    rows: int
    micro_rows: int
    warmup: int
    steps: int

    @property
    def slots(self) -> int:
        """Tokens of a step, padding included."""
        return self.length * self.rows

    @property
    def budget(self) -> int:
        """Loss-bearing tokens that end in the middle of the last step: documents and padding take about 1 % of the slots."""
        return int((self.warmup + self.steps - 0.5) * self.slots * 0.99)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One process: its measured steps, and all losses."""

    name: str
    step_s: list[float]
    losses: list[float]
    cpu_s: float
    """User and system seconds of the whole process, start included; 0 where Ray's processes did the work."""
    load: float
    """One-minute load average before it began: above 1, the machine was not quiet."""
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
            "cpu_s": round(self.cpu_s, 1),
            "load": round(self.load, 2),
        }


def call(arguments: list[str], log: Path, environment: dict[str, str]) -> float:
    """Run Python with `arguments`; returns CPU seconds of it and its children.

    Raises:
        RuntimeError: With the end of its output, if it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("w") as stream:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=REPOSITORY, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {done.returncode}\n" + log.read_text()[-3000:])
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


class Bench:
    """Prepares once and measures variants.

    Args:
        study: The study file.
        root: Where its artifacts lie.
        environment: Of every process that trains; Ray's daemons get the plain one, and give it to their workers themselves.
        logs: Folder of the processes' output.
        common: Overrides of the study for every run.
    """

    def __init__(self, study: Path, root: Path, environment: dict[str, str], logs: Path, common: tuple[str, ...] = ()) -> None:
        self.study, self.root, self.logs = study, root, logs
        self.environment, self.common = environment, (f"study.root={root}", *common)
        self._count = itertools.count()

    def prepare(self, length: int) -> None:
        """Make the rows of `length` tokens, or find them."""
        self._verb("prepare", (f"prepare.pack.sequence_length={length}",), dict(os.environ))

    def ours(self, name: str, shape: Shape, *, deepspeed: str, kind: str = "local", extra: tuple[str, ...] = ()) -> Measured:
        """Train with `cpt-ray train`, from nothing."""
        shutil.rmtree(self.root / "train", ignore_errors=True)
        load = os.getloadavg()[0]
        environment = self.environment if kind == "local" else dict(os.environ)
        cpu_s = self._verb("train", (*self._overrides(shape, deepspeed), f"runtime.kind={kind}", *extra), environment)
        (run,) = (path.parent for path in self.root.glob("train/*/run.json"))
        kept = self.root / "kept" / f"{next(self._count):02d}-{name}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(run, kept, ignore=shutil.ignore_patterns("*.safetensors", "checkpoints"))
        steps = read_metrics(kept)
        if len(steps) != shape.warmup + shape.steps:
            raise RuntimeError(f"{name}: {len(steps)} steps instead of {shape.warmup + shape.steps}")
        return Measured(
            name=name,
            step_s=[step.step_s for step in steps[shape.warmup :]],
            losses=[step.loss for step in steps],
            cpu_s=cpu_s if kind == "local" else 0.0,
            load=load,
            run=kept,
        )

    def peer(self, name: str, shape: Shape, *, like: Measured, deepspeed: str) -> Measured:
        """Train with the peer `name` of `train_peers.py`, on the rows and at the rates of `like`."""
        if like.run is None:
            raise RuntimeError(f"{name}: nothing to take rows from")
        steps = read_metrics(like.run)
        result = self.root / "peer.json"
        settings = peer_settings(
            steps,
            load_study(self.study, self.common).train,
            model=next(self.root.glob("models/*/config.json")).parent,
            shards=self._shards(shape.length),
            micro_rows=shape.micro_rows,
            deepspeed=load_deepspeed(REPOSITORY / deepspeed),
            result=result,
        )
        path = self.root / "peer-settings.json"
        path.write_text(json.dumps(asdict(settings)), encoding="utf-8")
        load = os.getloadavg()[0]
        cpu_s = call(
            [str(Path(__file__).with_name("train_peers.py")), name, str(path)],
            self.logs / f"{name}.log",
            {**self.environment, **_single_process()},
        )
        found = json.loads(result.read_text(encoding="utf-8"))
        require_equal_work({"ours": [step.loss for step in steps], name: found["loss"]})
        return Measured(name=name, step_s=found["step_s"][shape.warmup :], losses=found["loss"], cpu_s=cpu_s, load=load)

    def _overrides(self, shape: Shape, deepspeed: str) -> tuple[str, ...]:
        return (
            f"prepare.pack.sequence_length={shape.length}",
            f"train.budgets=[{shape.budget}]",
            f"train.global_batch_size={shape.rows}",
            f"train.micro_batch_size={shape.micro_rows}",
            f"train.deepspeed={REPOSITORY / deepspeed}",
        )

    def _shards(self, length: int) -> Path:
        for path in self.root.glob("shards/*/manifest.json"):
            if json.loads(path.read_text(encoding="utf-8"))["sequence_length"] == length:
                return path.parent
        raise RuntimeError(f"no shards with rows of {length} tokens under {self.root}")

    def _verb(self, verb: str, overrides: tuple[str, ...], environment: dict[str, str]) -> float:
        arguments = ["-m", "cpt_ray.cli.main", verb, str(self.study), *self.common, *overrides]
        return call(arguments, self.logs / f"{verb}.log", environment)


def _single_process() -> dict[str, str]:
    return {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29571"}


def ratio(ours: list[Measured], other: list[Measured]) -> tuple[float, list[float]]:
    """Our speed over the other's: median over rounds, and each round's."""
    rounds = [b.median_s / a.median_s for a, b in zip(ours, other, strict=True)]
    return statistics.median(rounds), [round(one, 4) for one in rounds]


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
    """What a peer needs to repeat our run: rows and learning rates from its metrics, the rest from its config."""
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
