"""`doctor --step`: a training step in another process, with the environment that training workers get.

Out: a finding with the seconds that it took; or what the process said last, if it failed.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.process import NO_GPU
from cpt_ray.edges.ray_runtime import operator_environment, put_interpreter_on_path
from cpt_ray.records import Finding
from cpt_ray.study.stages.train import deepspeed_path

_WHAT = "training step"
_LONGEST_S = 300.0
"""Building the operators takes a minute or two."""


def check_step(config: StudyConfig | None = None, path: Path | None = None, *, longest_s: float = _LONGEST_S) -> Finding:
    """Train a tiny model for a few steps.

    Args:
        config: The study whose DeepSpeed file, precision and device are used; ZeRO-2 in bf16 if there is none.
        path: The file of the study.
        longest_s: A process that takes longer is ended, and that is what was found.
    """
    arguments = ["bf16"]
    if config is not None and path is not None:
        arguments = [config.train.precision, str(deepspeed_path(config.train.deepspeed, path))]
    put_interpreter_on_path()
    environment = {**os.environ, **operator_environment()}
    if config is not None and config.runtime.wants_gpu is False:
        environment |= NO_GPU
    command = [sys.executable, "-m", "cpt_ray.study.preflight.doctor.tiny_step", *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=longest_s, check=False)
    except subprocess.TimeoutExpired:
        return Finding(_WHAT, f"not done after {longest_s:.0f} s", "fail", _by_hand(arguments))
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = f"killed by signal {-done.returncode}" if done.returncode < 0 else (said[-1] if said else "no message")
        return Finding(_WHAT, reason[:400], "fail", _by_hand(arguments))
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
        return Finding(_WHAT, said, "fail", "the machine computes wrongly: another torch build, or another machine")
    if losses[-1] >= losses[0]:
        said = f"{how}: the loss went from {losses[0]:.3f} to {losses[-1]:.3f} on the same rows"
        return Finding(
            _WHAT, said, "fail", "the weights do not move: another torch build, or DeepSpeed's operators built again"
        )
    text = f"{how}: {len(losses)} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}, all finite"
    return Finding(_WHAT, f"{text}; engine in {found['build_s']:.1f} s, a step in {found['step_s']:.3f} s")


def _by_hand(arguments: list[str]) -> str:
    return f"see all of it: {' '.join([sys.executable, '-m', 'cpt_ray.study.preflight.doctor.tiny_step', *arguments])}"
