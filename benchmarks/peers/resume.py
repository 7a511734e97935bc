"""A long run stopped at 90 % of its steps: seconds until the first new step, ours beside Hugging Face's Trainer.

Both runs are really trained to that step, with a tiny model whose steps cost next to nothing, and saved: ours when it gets
SIGTERM, the Trainer by `save_steps`. Then each is resumed several times, in turns, from what lay there, and ended after its
first step. Ours finds its batch by a seek; the Trainer passes over the batches seen, by their indices where the data is a
dataset on disk, by reading them where it is a stream.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.processes import send
from benchmarks.measure.turns import REPOSITORY
from benchmarks.peers.bench import DEEPSPEED, STUDY, THREADS, Bench, Beside, standard_error
from benchmarks.peers.material import license_texts, tiny_base
from cpt_ray.records import StepMetrics

ROWS, LENGTH = 8, 32
REPEATS = 7
_STOPPED = 130
"""Exit code of a command that was interrupted and has saved."""
_LIMIT_S = 1800
_TRAINER = "benchmarks.peers.theirs.trainer_resume"


def resume(bench: Bench) -> list[Claim]:
    """Train both runs to 90 %, then resume each."""
    stop_at, load = bench.resume_steps * 9 // 10, os.getloadavg()[0]
    base = tiny_base(bench.empty("resume-base"), license_texts(500_000))
    ours, theirs = _train_ours(bench, base, stop_at), _train_theirs(bench, base, stop_at)
    seconds: dict[str, list[float]] = {"ours": [], "resume": [], "resume-streaming": []}
    for _ in range(1 if bench.quick else REPEATS):
        seconds["ours"].append(_resume_ours(bench, ours, stop_at))
        for how in ("resume", "resume-streaming"):
            seconds[how].append(_resume_theirs(bench, theirs, how, stop_at))
    print(f"load before {load:.1f}", {name: [round(one, 1) for one in found] for name, found in seconds.items()}, flush=True)
    return [
        _claim(bench, "resume_ratio", "Trainer", seconds["ours"], seconds["resume"], "a dataset on disk", target="<= 1.0"),
        _claim(
            bench, "resume_streaming_ratio", "Trainer, streaming", seconds["ours"], seconds["resume-streaming"],
            "an IterableDataset of the same rows", target="<= 1.0",
        ),
    ]  # fmt: skip


def _claim(
    bench: Bench, name: str, title: str, ours: list[float], theirs: list[float], data: str, *, target: str | None
) -> Claim:
    peer = f"HF {title}, transformers {version('transformers')}"
    mine, other = statistics.median(ours), statistics.median(theirs)
    what = f"to the first new step, resumed at step {bench.resume_steps * 9 // 10:,} of {bench.resume_steps:,}"
    beside = Beside(
        peer=peer, what=what, ours=mine, theirs=other, unit="s",
        more={"options": f"resume_from_checkpoint, {data}", "seconds": {"ours": ours, "theirs": theirs}},
    )  # fmt: skip
    return Claim(
        id=f"peers.{name}",
        possible=POSITIVE,
        claim=f"wall seconds {what}, from the start of the process, ours over theirs; {ROWS} rows a step, a tiny model",
        value=mine / other,
        spread=standard_error([a / b for a, b in zip(ours, theirs, strict=True)]),
        unit="ratio of seconds",
        target=target,
        work=(len(ours), "resumptions"),
        compared_with=f"{peer}: {beside.more['options']}",
        raw=beside.raw(),
    )


def _command(bench: Bench, root: Path, base: Path, verb: str = "train") -> list[str]:
    budget = int(bench.resume_steps * ROWS * LENGTH * 0.96)  # the first token of a document bears no loss
    overrides = bench.study_overrides(
        root,
        f"models.0.base={base}",
        f"prepare.pack.sequence_length={LENGTH}",
        "arms.legal.max_epochs=100",
        f"train.budgets=[{budget}]",
        f"train.global_batch_size={ROWS}",
        f"train.micro_batch_size={ROWS}",
        "train.precision=fp32",
        f"train.checkpoint_every={2 * budget}",
        f"train.deepspeed={REPOSITORY / DEEPSPEED}",
    )
    return [sys.executable, "-m", "cpt_ray.cli.main", verb, str(STUDY), *overrides]


def _train_ours(bench: Bench, base: Path, stop_at: int) -> Path:
    """Our run, stopped: a copy of its root, from which every resumption starts."""
    root, kept, log = bench.empty("resume-ours"), bench.empty("resume-ours-kept"), bench.root / "resume-ours.log"
    subprocess.run(_command(bench, root, base, "prepare"), cwd=REPOSITORY, env=bench.environment, check=True)
    process = _start(_command(bench, root, base), bench, log)
    _wait(lambda: _lines(root) >= stop_at, process, log, every_s=0.2)
    process.send_signal(signal.SIGTERM)  # a shell may have its background jobs ignore SIGINT
    if process.wait() != _STOPPED:
        raise RuntimeError(f"our run ended with code {process.returncode} instead of {_STOPPED}\n{_end_of(log)}")
    shutil.copytree(root, kept, dirs_exist_ok=True)
    return kept


def _resume_ours(bench: Bench, kept: Path, stop_at: int) -> float:
    root, log = bench.root / "resume-ours", bench.root / "resume-ours-again.log"
    shutil.rmtree(root)
    shutil.copytree(kept, root)
    before = _attempts(root)
    command = _command(bench, root, bench.root / "resume-base")
    seconds = _until(lambda: any(b"\n" in path.read_bytes() for path in _attempts(root) - before), command, bench, log)
    (new,) = _attempts(root) - before
    first = StepMetrics.from_json(new.read_text(encoding="utf-8").splitlines()[0]).step
    if first <= stop_at:
        raise RuntimeError(f"our run did not resume: its first new step is {first}")
    return seconds


def _attempts(root: Path) -> set[Path]:
    return set(root.glob("train/*/metrics/attempt-*.jsonl"))


def _lines(root: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in _attempts(root))


def _train_theirs(bench: Bench, base: Path, stop_at: int) -> dict[str, Any]:
    """The Trainer's run, stopped: its settings."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset

    folder = bench.empty("resume-theirs")
    count = bench.resume_steps * ROWS
    tokens = pa.array(np.random.default_rng(0).integers(1, 500, count * LENGTH, dtype=np.int64))
    rows = pa.FixedSizeListArray.from_arrays(tokens, LENGTH).cast(pa.list_(pa.int64()))
    Dataset(pa.table({"input_ids": rows, "labels": rows})).save_to_disk(folder / "rows")
    settings = {
        "model": str(base), "rows": str(folder / "rows"), "out": str(folder / "out"), "num_steps": bench.resume_steps,
        "stop_at": stop_at, "batch": ROWS, "learning_rate": 2.0e-5, "threads": THREADS, "steps": str(folder / "steps"),
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    log = bench.root / "resume-theirs.log"
    process = _start([sys.executable, "-m", _TRAINER, "train", str(folder / "settings.json")], bench, log)
    if process.wait():
        raise RuntimeError(f"the Trainer ended with code {process.returncode}\n{_end_of(log)}")
    return settings


def _resume_theirs(bench: Bench, settings: dict[str, Any], how: str, stop_at: int) -> float:
    steps = Path(settings["steps"])
    steps.unlink(missing_ok=True)
    command = [sys.executable, "-m", _TRAINER, how, str(bench.root / "resume-theirs" / "settings.json")]
    seconds = _until(lambda: steps.exists() and steps.stat().st_size > 0, command, bench, bench.root / f"{how}.log")
    if int(steps.read_text(encoding="utf-8").split()[0]) != stop_at + 1:
        raise RuntimeError(f"the Trainer did not resume: its first new step is {steps.read_text(encoding='utf-8')}")
    return seconds


def _start(command: list[str], bench: Bench, log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as stream:
        return subprocess.Popen(command, cwd=REPOSITORY, env=bench.environment, stdout=stream, stderr=subprocess.STDOUT)


def _until(done: Callable[[], bool], command: list[str], bench: Bench, log: Path) -> float:
    """Seconds from the start of a command until something is there; the command is ended then."""
    started = time.perf_counter()
    process = _start(command, bench, log)
    try:
        _wait(done, process, log, every_s=0.02)
        return time.perf_counter() - started
    finally:
        if process.poll() is None:
            send([*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)], signal.SIGKILL)
        process.wait()


def _wait(done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, *, every_s: float) -> None:
    end = time.perf_counter() + _LIMIT_S
    while not done():
        if process.poll() is not None and not done():
            raise RuntimeError(f"ended early, with code {process.returncode}\n{_end_of(log)}")
        if time.perf_counter() > end:
            send([psutil.Process(process.pid)], signal.SIGKILL)
            raise RuntimeError(f"over {_LIMIT_S} s\n{_end_of(log)}")
        time.sleep(every_s)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
