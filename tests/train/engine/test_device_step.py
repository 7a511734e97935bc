"""What decides on the device; on a GPU, that no step waits for it, and that a broken one changes nothing there."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cpt_ray.train.engine.device_step import decides_on_device
from cpt_ray.train.engine.outcome import Outcome

ROOT = Path(__file__).parents[3]


def adam(**settings):
    return torch.optim.AdamW([torch.zeros(3, requires_grad=True)], lr=0.1, fused=True, **settings)


def test_zero_in_bf16_and_fp32_decides_on_the_device_and_the_rest_does_not():
    def zero(**fields):
        return SimpleNamespace(**{"scaled_global_norm": None, "optimizer": adam(), "dtype": torch.bfloat16, **fields})

    assert decides_on_device(zero())
    assert decides_on_device(zero(dtype=torch.float32))
    assert decides_on_device(SimpleNamespace(_get_norm_groups=None, optimizer=adam(), dtype=torch.bfloat16))
    assert decides_on_device(SimpleNamespace(clear_hp_grads=None, optimizer=adam()))
    assert not decides_on_device(zero(dtype=torch.float16))  # the host counts its loss scale
    assert not decides_on_device(zero(cpu_offload=True))
    assert not decides_on_device(zero(offload_optimizer=True))
    assert not decides_on_device(zero(optimizer=torch.optim.SGD([torch.zeros(1)], lr=0.1)))
    assert not decides_on_device(SimpleNamespace(optimizer=adam(), dtype=torch.bfloat16))  # stage 0
    assert not decides_on_device(adam())


@pytest.mark.parametrize("found", [0.0, 1.0])
def test_torchs_fused_adamw_changes_nothing_where_it_is_told_that_a_gradient_is_not_finite(found):
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    weight.grad = torch.ones(3)
    optimizer.step()
    before = [weight.detach().clone(), *(value.clone() for value in optimizer.state[weight].values())]
    weight.grad = torch.full((3,), math.nan if found else 2.0)
    optimizer.found_inf = torch.tensor(found)
    optimizer.step()
    after = [weight.detach(), *optimizer.state[weight].values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) is bool(found)


def test_an_outcome_on_a_cpu_is_there_at_once():
    assert Outcome(torch.tensor(2.5, dtype=torch.double), torch.tensor(0.5)).read() == (2.5, 0.5)


@pytest.mark.gpu
@pytest.mark.parametrize(("stage", "precision"), [(1, "bf16"), (1, "fp32"), (2, "bf16"), (2, "fp32")])
@pytest.mark.parametrize("isolation", ["none", "document"])
def test_on_a_gpu_no_step_waits_and_a_broken_one_changes_nothing(tmp_path, stage, precision, isolation):
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.engine.gpu_steps", str(stage), precision, isolation, str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["decides_on_device"]
    assert found["losses"] == sorted(found["losses"], reverse=True)  # the same rows again and again
    assert len(set(found["losses"])) == len(found["losses"])
    assert all(map(math.isfinite, found["norms"]))
    assert found["broken"] == "nan"
    assert found["broken_changed_nothing"]
    assert all(map(math.isfinite, found["next"]))
