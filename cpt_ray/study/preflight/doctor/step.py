"""`doctor --step`: a training step in another process, with the environment that training workers get, here or on a node.

Out: a finding with the seconds that it took; or what the process said last, if it failed.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.process import NO_GPU
from cpt_ray.edges.ray_runtime import operator_environment, put_interpreter_on_path
from cpt_ray.records import Finding
from cpt_ray.study.stages.train import deepspeed_path

STEP = "training step"
LONGEST_S = 300.0
"""Building the operators takes a minute or two."""


class StepSettings(NamedTuple):
    """How the steps are taken; plain values, which travel to a node."""

    precision: str = "bf16"
    deepspeed: str = ""
    """What a DeepSpeed file holds, as JSON; empty for ZeRO-2."""
    without_gpu: bool = False

    @classmethod
    def of(cls, config: StudyConfig, path: Path) -> StepSettings:
        """Those of a study's workers.

        Args:
            config: The study.
            path: Its file.

        Raises:
            ConfigError: If its DeepSpeed file cannot be used.
        """
        deepspeed = load_deepspeed(deepspeed_path(config.train.deepspeed, path))
        return cls(config.train.precision, json.dumps(deepspeed.tree), config.runtime.wants_gpu is False)


def check_step(settings: StepSettings, *, longest_s: float = LONGEST_S) -> Finding:
    """Train a tiny model for a few steps.

    Args:
        settings: How.
        longest_s: A process that takes longer is ended, and that is what was found.
    """
    arguments = [settings.precision, *([settings.deepspeed] if settings.deepspeed else [])]
    put_interpreter_on_path()
    environment = {**os.environ, **operator_environment(), **(NO_GPU if settings.without_gpu else {})}
    command = [sys.executable, "-m", "cpt_ray.study.preflight.doctor.tiny_step", *arguments]
    by_hand = f"see all of it: {shlex.join(command)}"
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=longest_s, check=False)
    except subprocess.TimeoutExpired:
        return Finding(STEP, f"not done after {longest_s:.0f} s", "fail", by_hand)
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = f"killed by signal {-done.returncode}" if done.returncode < 0 else (said[-1] if said else "no message")
        return Finding(STEP, reason[:400], "fail", by_hand)
    return judge_steps(json.loads(done.stdout.splitlines()[-1]))


def judge_steps(found: dict[str, object]) -> Finding:
    """What the process says: all losses and norms must be finite, and the loss on the same rows must fall.

    Args:
        found: The line of the process.
    """
    losses, norms = (list(map(float, found[name])) for name in ("losses", "norms"))  # type: ignore[call-overload]
    how = f"ZeRO-{found['zero_stage']}, {found['precision']}, {found['device']}"
    if not all(map(math.isfinite, (*losses, *norms))):
        said = f"{how}: losses {losses}, gradient norms {norms}"
        return Finding(STEP, said, "fail", "the machine computes wrongly: another torch build, or another machine")
    if losses[-1] >= losses[0]:
        said = f"{how}: the loss went from {losses[0]:.3f} to {losses[-1]:.3f} on the same rows"
        return Finding(STEP, said, "fail", "the weights do not move: another torch build, or DeepSpeed's operators built again")
    text = f"{how}: {len(losses)} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}, all finite"
    return Finding(STEP, f"{text}; engine in {found['build_s']:.1f} s, a step in {found['step_s']:.3f} s")
