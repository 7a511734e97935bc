"""Whole runs of the real engine that read outcomes two steps late, against runs that read each at once: the same bits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from cpt_ray.errors import TrainingError
from cpt_ray.records import RunRecord
from cpt_ray.train.checkpoint import committed as checkpoint
from cpt_ray.train.engine.engine import Engine
from cpt_ray.train.monitor.metrics import read_events, read_metrics
from tests.train.checkpoint.resume_jobs import cut_after
from tests.train.tiny_run import run, weights

SETTINGS = {"budgets": [2200], "checkpoint_every": 600, "keep_checkpoints": 9, "watch": {"held_out_every": 0}}
TIMES = {"tokens_per_s", "step_s", "data_wait_s", "mfu", "attempt"}


@pytest.fixture
def late(monkeypatch):
    """Sets the lag of engines, and a fault of one step: `gradient` or `loss` not finite, or a `spike`."""
    accumulate = Engine.accumulate

    def configure(lag: int, fault: str | None = None, step: int = 0) -> None:
        def with_fault(self: Engine, micro_batches, *, loss_tokens):
            hit = fault is not None and self._engine.global_steps == step - 1
            weight = self.lm.model.layers[0].mlp.down_proj.weight
            hook = weight.register_hook(lambda grad: grad * math.nan) if hit and fault == "gradient" else None
            loss = accumulate(self, micro_batches, loss_tokens=loss_tokens)
            if hook is not None:
                hook.remove()
            return loss * {"loss": math.nan, "spike": 3.0}.get(fault, 1.0) if hit else loss

        monkeypatch.setattr(Engine, "lag", property(lambda _: lag))
        monkeypatch.setattr(Engine, "accumulate", with_fault)

    return configure


def lines(folder: Path) -> list[dict[str, object]]:
    return [{key: value for key, value in json.loads(m.to_json()).items() if key not in TIMES} for m in read_metrics(folder)]


def saved(folder: Path) -> list[tuple[object, object]]:
    return [(manifest.progress, manifest.figures) for _, manifest in checkpoint.committed(folder)]


def events(folder: Path) -> list[tuple[object, ...]]:
    found = read_events(folder)
    return [(e.kind, e.step, e.tokens_seen, str(e.loss), e.sample_ids) for e in found if e.kind not in ("warning", "resume")]


def require_same(root: Path, one: str, two: str) -> None:
    assert lines(root / one) == lines(root / two)
    assert saved(root / one) == saved(root / two)
    assert events(root / one) == events(root / two)


@pytest.mark.parametrize(("precision", "stage"), [("bf16", 1), ("bf16", 2), pytest.param("fp32", 3, marks=pytest.mark.full)])
@pytest.mark.parametrize("fault", ["gradient", "loss"])
def test_with_a_skipped_step_weights_records_and_checkpoints_are_the_same_and_so_is_a_resumed_run(
    root, late, precision, stage, fault
):
    settings = {**SETTINGS, "precision": precision, "stage": stage, "guards": {"max_skipped_steps": 1}}
    name = f"{fault}-{precision}-{stage}"
    for lag in (0, 2):
        late(lag, fault, step=4)
        record = run(root, "legal-2200", f"{name}-{lag}", **settings)
        assert (record.training.progress.steps_skipped, record.training.progress.step) == (1, 9)
    require_same(root, f"{name}-0", f"{name}-2")
    one, two = (weights(RunRecord.of(root / f"{name}-{lag}").export_path) for lag in (0, 2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    # The checkpoint before the skipped step, and the one after it.
    for number, (_, manifest) in enumerate(checkpoint.committed(root / f"{name}-0")):
        cut_after(root, f"{name}-0", f"{name}-cut-{number}", step=manifest.progress.step)
        again = run(root, "legal-2200", f"{name}-cut-{number}", **settings)
        assert again.training.first_steps == (0, manifest.progress.step)
        assert lines(root / f"{name}-cut-{number}") == lines(root / f"{name}-0")
        resumed = weights(again.export_path)
        assert all(torch.equal(one[key], resumed[key]) for key in one)
    assert number == 2


@pytest.mark.parametrize(
    ("fault", "guards", "message"),
    [
        ("spike", {"spike_window": 10, "on_spike": "stop"}, "step 7 at .* tokens: loss spike: "),
        ("gradient", {}, "step 7 at .* tokens: gradient norm is nan"),
    ],
)
def test_a_guard_that_refuses_a_step_leaves_nothing_of_the_steps_after_it(root, late, fault, guards, message):
    for lag in (0, 2):
        late(lag, fault, step=7)
        with pytest.raises(TrainingError, match=message):
            run(root, "legal-2200", f"refused-{fault}-{lag}", **SETTINGS, guards=guards)
        assert [line["step"] for line in lines(root / f"refused-{fault}-{lag}")] == list(range(1, 7))
        assert len(saved(root / f"refused-{fault}-{lag}")) == 2
    require_same(root, f"refused-{fault}-0", f"refused-{fault}-2")


def test_a_gpu_lags_one_step_and_a_cpu_none():
    engine = object.__new__(Engine)
    engine.device = torch.device("cuda", 0)
    assert engine.lag == 1
    engine.device = torch.device("cpu")
    assert engine.lag == 0
