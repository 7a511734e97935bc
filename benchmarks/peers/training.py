"""From text to a trained model: `prepare` and `train` in an empty root beside run_clm.py's path, LitGPT, Ray's guide.

Both sides begin with the same text and the same folder of a base, prepare rows of the same length, and take the same number of
steps of the same size, a few at a time in turns (`benchmarks/measure/turns.py`). What is equal else: threads, allocator, fp32
master weights, and bf16 products where the CPU has units for them. What is not, and is part of what each tool does: we read
documents, drop duplicates, hold out, pack documents whole, do not let them see each other, prove that at start-up, and write an
export with its record; peers join all text and let documents see each other, or cut and pad each one. The speed is in tokens
that bear loss.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.environments import python_with
from benchmarks.measure.turns import REPOSITORY, Side, Turns, run_in_turns
from benchmarks.peers.bench import DEEPSPEED, STUDY, THREADS, Bench, Beside, seconds_claim, standard_error
from benchmarks.peers.theirs.settings import TrainSettings, tokens_of_steps
from benchmarks.train import runs
from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.train.monitor.metrics import read_metrics

LEARNING_RATE = 2.0e-5
LITGPT = ("litgpt==0.5.13", "litdata==0.2.59", "torchmetrics", "torch==2.13.0")
"""torch by its exact version: else pip takes a build for a GPU."""
_LITGPT_MODEL = "SmolLM2-135M-Instruct"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer's process, and what it is called."""

    name: str
    title: str
    """Name and version."""
    side: Side
    tokens: Callable[[], list[int]]
    """Loss-bearing tokens of each of its steps."""
    options: str
    ours: str = "local"
    """`runtime.kind` of our side."""
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


def run_clm(bench: Bench) -> list[Claim]:
    """The path of run_clm.py."""
    half = "--bf16 " if bench.precision == "bf16" else ""
    options = f"--dtype float32 {half}--optim adamw_torch_fused --preprocessing_num_workers 2 --block_size 512"
    peer = _own_process(
        bench, "run_clm", f"run_clm.py's path, transformers {version('transformers')}", bench.text.joined, options
    )
    return _claims(bench, peer, whole=True)


def litgpt(bench: Bench) -> list[Claim]:
    """LitGPT's `pretrain` of the same base."""
    # litdata requires torchvision, whose build may not match torch's; nothing here uses it.
    python = python_with("litgpt-0.5.13", LITGPT, without=["torchvision"])
    checkpoint = _litgpt_checkpoint(bench, python)
    out, log = bench.empty("litgpt"), bench.root / "litgpt.log"
    log.unlink(missing_ok=True)
    shape, text = bench.shape, bench.empty("litgpt-text")
    precision = "bf16-mixed" if bench.precision == "bf16" else "32-true"
    shutil.copytree(bench.text.litgpt, text, dirs_exist_ok=True)  # it writes its tokens beside the text
    adamw = {"class_path": "torch.optim.AdamW", "init_args": {"lr": LEARNING_RATE}}
    options = {
        "initial_checkpoint_dir": checkpoint, "tokenizer_dir": checkpoint, "out_dir": out / "out", "precision": precision,
        "data": "TextFiles", "data.train_data_path": text, "data.num_workers": 1,
        "train.max_seq_length": shape.length, "train.global_batch_size": shape.rows, "train.micro_batch_size": shape.rows,
        "train.max_tokens": shape.slots * (shape.warmup + shape.steps), "train.lr_warmup_steps": 1, "train.min_lr": 0,
        "train.max_norm": 1.0, "train.tie_embeddings": "true", "train.log_interval": 1,
        "eval.final_validation": "false", "optimizer": json.dumps(adamw), "logger_name": "csv",
    }  # fmt: skip
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    side = Side(
        name="litgpt",
        arguments=["-m", "litgpt", "pretrain", _LITGPT_MODEL, *arguments],
        environment=bench.environment,
        log=log,
        steps_done=lambda: log.read_bytes().count(b"ms (step)") if log.exists() else 0,
        interpreter=str(python),
    )
    peer = Peer(
        name="litgpt",
        title="LitGPT 0.5.13",
        side=side,
        # Its rows are read with one token more, so that each of them has a label for every token.
        tokens=lambda: [shape.slots] * (shape.warmup + shape.steps),
        options=f"precision {precision}, TextFiles, torch.compile as always in it, AdamW (fused is off on a CPU)",
    )
    return _claims(bench, peer)


def _litgpt_checkpoint(bench: Bench, python: Path) -> Path:
    """The base in LitGPT's form: set-up, not measured."""
    folder = bench.root / "litgpt-base" / _LITGPT_MODEL
    if not (folder / "lit_model.pth").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(bench.base, folder)
        command = [str(python), "-m", "litgpt", "convert_to_litgpt", str(folder), "--model_name", _LITGPT_MODEL]
        subprocess.run(command, check=True, env=bench.environment)
    return folder


def ray_template(bench: Bench) -> list[Claim]:
    """Ray's guide to DeepSpeed, both sides under a private Ray."""
    title = f"Ray {version('ray')}'s DeepSpeed guide"
    options = "one worker with both cores, our DeepSpeed JSON, rows padded or cut to 512 tokens"
    return _claims(bench, _own_process(bench, "ray_template", title, bench.text.records, options, ours="ray"))


def _own_process(bench: Bench, name: str, title: str, text: Path, options: str, *, ours: str = "local") -> Peer:
    out, shape = bench.empty(name), bench.shape
    tree = {
        key: dict(value) if isinstance(value, dict) else value
        for key, value in load_deepspeed(REPOSITORY / DEEPSPEED).tree.items()
    }
    settings = TrainSettings(
        model=str(bench.base),
        text=str(text),
        out=str(out),
        length=shape.length,
        rows=shape.rows,
        precision=bench.precision,
        num_steps=shape.warmup + shape.steps,
        threads=THREADS,
        learning_rate=LEARNING_RATE,
        steps=str(out / "steps"),
        deepspeed={
            **tree,
            "bf16": {**tree["bf16"], "enabled": bench.precision == "bf16"},
            "train_micro_batch_size_per_gpu": shape.rows,
            "gradient_clipping": 1.0,
            "steps_per_print": 10**9,
        },
        worker_environment=bench.worker_variables,
    )
    side = Side(
        name=name,
        arguments=["-m", f"benchmarks.peers.theirs.{name}", str(settings.save(out / "settings.json"))],
        environment=bench.plain_environment if ours == "ray" else bench.environment,
        log=bench.root / f"{name}.log",
        steps_done=lambda: len(tokens_of_steps(out / "steps")),
    )
    return Peer(name=name, title=title, side=side, tokens=lambda: tokens_of_steps(out / "steps"), options=options, ours=ours)


def _ours(bench: Bench, peer: Peer) -> runs.Trainer:
    """`cpt-ray prepare` and `train` with an empty root: they import the base and prepare the text first.

    Text is prepared without Ray in any case; the shards are the same.
    """
    root = bench.empty(f"ours-{peer.name}")
    common = bench.study_overrides(root)[1:]
    environment = bench.plain_environment if peer.ours == "ray" else bench.environment
    trainer = runs.Bench(STUDY, root, environment, common).ours("ours", bench.shape, deepspeed=DEEPSPEED, kind=peer.ours)
    train = [sys.executable, *trainer.side.arguments]
    prepare = ["prepare" if word == "train" else word for word in train]
    both = f"{shlex.join([*prepare, 'runtime.kind=local'])} && exec {shlex.join(train)}"
    return dataclasses.replace(trainer, side=dataclasses.replace(trainer.side, interpreter="bash", arguments=["-c", both]))


def _claims(bench: Bench, peer: Peer, *, whole: bool = False) -> list[Claim]:
    ours, load = _ours(bench, peer), os.getloadavg()[0]
    mine, other = run_in_turns((ours.side, peer.side), warmup=bench.shape.warmup, steps=bench.shape.steps)
    _, _, run = ours.read()
    if run is None:
        raise RuntimeError("our side has no run")
    seen = [0, *(step.tokens_seen for step in read_metrics(run))]
    my_tokens = [after - before for before, after in itertools.pairwise(seen)]
    their_tokens = peer.tokens()
    speeds = [_speed(turns, tokens) for turns, tokens in ((mine, my_tokens), (other, their_tokens))]
    ratios = [
        my_tokens[number] / mine_s / (their_tokens[number] / other_s)
        for number, mine_s, other_s in zip(mine.numbers, mine.step_s, other.step_s, strict=True)
    ]
    first_s = f"first step {mine.first_step_s:.1f}, {other.first_step_s:.1f} s"
    print(f"{peer.title}: {speeds[0]:.0f} against {speeds[1]:.0f} tokens/s; {first_s}", flush=True)
    more = {
        "options": peer.options,
        "load_before": load,
        "text": {"documents": bench.text.count, "bytes": bench.text.text_bytes},
        "steps": {"ours": _steps(mine, my_tokens), "theirs": _steps(other, their_tokens)},
        **peer.more,
    }
    rows = f"{bench.shape.rows} rows of {bench.shape.length} tokens a step, 135M parameters, {bench.precision}"
    side = "under Ray in both" if peer.ours == "ray" else "without Ray"
    claims = [
        Claim(
            id=f"peers.{peer.name}_speed_ratio", possible=POSITIVE,
            claim=f"tokens that bear loss a second in steady steps, ours over theirs; {rows}, {side}",
            value=speeds[0] / speeds[1], spread=standard_error(ratios), unit="ratio of tokens/s", target=">= 1.0",
            work=(len(ratios), "turns"), compared_with=f"{peer.title}: {peer.options}",
            raw=Beside(
                peer=peer.title, what="training, steady steps", ours=speeds[0], theirs=speeds[1], unit="tokens/s", more=more
            ).raw(),
        ),
        _seconds(
            peer, "first_step", "from text to the end of the first step", mine.first_step_s, other.first_step_s,
            cpu_s={"ours": mine.first_step_cpu_s, "theirs": other.first_step_cpu_s}, load_before=load,
        ),
    ]  # fmt: skip
    if whole:
        steps = bench.shape.warmup + bench.shape.steps
        what = f"from text to a saved model after {steps} steps"
        claims.append(_seconds(peer, "whole", what, mine.whole_s, other.whole_s, load_before=load))
    return claims


def _speed(turns: Turns, tokens: list[int]) -> float:
    return sum(tokens[number] for number in turns.numbers) / sum(turns.step_s)


def _steps(turns: Turns, tokens: list[int]) -> dict[str, Any]:
    return {
        "tokens": [tokens[number] for number in turns.numbers],
        "step_s": [round(second, 3) for second in turns.step_s],
        "cpu_s": [round(second, 2) for second in turns.cpu_s],
    }


def _seconds(peer: Peer, name: str, what: str, ours_s: float, theirs_s: float, **more: Any) -> Claim:
    options = {"options": peer.options, **more}
    beside = Beside(peer=peer.title, what=what, ours=ours_s, theirs=theirs_s, unit="s", more=options)
    return seconds_claim(f"{peer.name}_{name}", beside, compared_with=peer.title)
