"""A gradient that is not finite on one rank changes nothing on any rank, at every ZeRO stage; without the guard it does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from cpt_ray.config.deepspeed import check_deepspeed
from cpt_ray.errors import ConfigError
from cpt_ray.train.engine.atomic_step import HostStep, atomic_step
from cpt_ray.train.order.batches import MicroBatch
from tests.train.tiny_run import make_model, tiny_config

# (stage, precision, offload of the optimizer, whether DeepSpeed itself would drop the step)
IN_CI = [(0, "fp32", False, False), (1, "bf16", False, True), (2, "bf16", True, False), (3, "bf16", False, True)]
CASES = [
    *IN_CI,
    *(
        pytest.param(*case, marks=pytest.mark.full)
        for case in [
            (0, "bf16", False, True),
            (1, "fp32", False, True),
            (2, "bf16", False, False),
            (3, "fp32", False, True),
            (3, "bf16", True, True),
        ]
    ),
]
T = 64


def build(root: str, stage: int, precision: str, offload: bool) -> Any:
    from cpt_ray.model.base import load_model
    from cpt_ray.train.engine.engine import Engine

    zero: dict[str, Any] = {"stage": stage, "overlap_comm": False, "stage3_param_persistence_threshold": 100}
    if offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    return Engine(
        load_model(Path(root) / "model", precision=precision),
        train=tiny_config(Path(root) / f"config-{dist.get_rank()}", precision=precision).train,
        deepspeed=check_deepspeed({"zero_optimization": zero, "bf16": {"check_grad_overflow": False}}, "ds.json"),
        accumulation_steps=2,
        device=torch.device("cpu"),
    )


def accumulate(engine: Any, step: int, *, poison: bool = False) -> torch.Tensor:
    """Two rows of a step on this rank; `poison` makes a gradient of the second one NaN, on rank 1 only."""
    generator = torch.Generator().manual_seed(10 * step + dist.get_rank())
    rows = [torch.randint(1, 200, (T,), generator=generator) for _ in range(2)]
    batches = [MicroBatch(ids, torch.cat([ids[1:], ids[:1]]), (T,)) for ids in rows]
    calls = []

    def break_gradient(grad: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return grad * float("nan") if len(calls) == 2 else grad

    weight = engine.lm.model.layers[0].mlp.down_proj.weight
    hook = weight.register_hook(break_gradient) if poison and dist.get_rank() == 1 else None
    loss = engine.accumulate(batches, loss_tokens=4 * T)
    if hook:
        hook.remove()
        assert len(calls) == 2
    return loss


def state(engine: Any) -> list[torch.Tensor]:
    """This rank's weights, master weights, moments and step counts."""
    found: list[torch.Tensor] = []

    def walk(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            found.append(item.detach().clone())
        elif isinstance(item, dict):
            for key in item:
                walk(item[key])
        elif isinstance(item, (list, tuple)):
            for entry in item:
                walk(entry)

    for parameter in engine._engine.module.parameters():
        found.append(getattr(parameter, "ds_tensor", parameter).detach().clone())
    optimizer = engine._engine.optimizer
    for inner in filter(None, (optimizer, getattr(optimizer, "optimizer", None))):
        walk([list(group["params"]) for group in inner.param_groups])
        walk([dict(value) for value in inner.state.values()])
    return found


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def step(engine: Any, number: int, *, poison: bool = False) -> float:
    """Take a step; returns its norm."""
    norm: float = engine.step(1e-3, accumulate(engine, number, poison=poison)).read()[1]
    return norm


def drop_and_go_on(root: str, stage: int, precision: str, offload: bool) -> dict[str, Any]:
    """Good, broken gradient, broken loss, good: compared with an engine that took only the good steps."""
    found: dict[str, Any] = {}
    engine = build(root, stage, precision, offload)
    found["decides_on_device"] = type(engine._guard).__name__ == "DeviceStep"
    found["first"] = step(engine, 1)
    before = state(engine)
    found["tensors"] = len(before)
    found["broken"] = step(engine, 2, poison=True)
    found["broken_changed_nothing"] = same(before, state(engine))
    found["refused"] = engine.step(1e-3, accumulate(engine, 3) * math.nan).read()[1]
    found["refusal_changed_nothing"] = same(before, state(engine))
    found["second"] = step(engine, 4)
    after = state(engine)
    found["good_step_changed"] = not same(before, after)
    engine.close()
    control = build(root, stage, precision, offload)
    for number, name in ((1, "control_first"), (4, "control_second")):
        found[name] = step(control, number)
    found["equals_control"] = same(after, state(control))
    control.close()
    return found


def step_without_guard(root: str, stage: int, precision: str, offload: bool) -> bool:
    """Whether weights or optimizer contain NaN after DeepSpeed alone has handled a broken gradient."""
    import cpt_ray.train.engine.engine as room

    class Nothing:
        lowered = None

        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def step(self, loss: torch.Tensor) -> torch.Tensor:
            self._engine.step()
            return torch.zeros_like(loss)

    guard, room.atomic_step = room.atomic_step, Nothing  # type: ignore[assignment]
    try:
        engine = build(root, stage, precision, offload)
        step(engine, 1)
        step(engine, 2, poison=True)
        broken = any(bool(torch.isnan(tensor).any()) for tensor in state(engine) if tensor.is_floating_point())
        engine.close()
    finally:
        room.atomic_step = guard
    return broken


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("guard")
    make_model(root)
    return str(root)


@pytest.mark.parametrize(("stage", "precision", "offload", "drops_itself"), CASES)
def test_a_dropped_step_changes_nothing_and_the_next_one_is_as_if_it_had_not_been(
    zero_groups, root, stage, precision, offload, drops_itself
):
    for rank in zero_groups.of(2).run(drop_and_go_on, root, stage, precision, offload):
        assert rank["tensors"] > 20
        assert rank["decides_on_device"] is (stage > 0 and not offload)
        assert rank["first"] > 0
        assert rank["broken"] != rank["broken"]  # NaN on both ranks, though only one saw it
        assert rank["broken_changed_nothing"]
        assert rank["refused"] != rank["refused"]
        assert rank["refusal_changed_nothing"]
        assert rank["good_step_changed"]
        assert (rank["first"], rank["second"]) == (rank["control_first"], rank["control_second"])
        assert rank["equals_control"]


@pytest.mark.parametrize(("stage", "precision", "offload", "drops_itself"), IN_CI)
def test_without_the_guard_a_broken_gradient_reaches_the_weights(zero_groups, root, stage, precision, offload, drops_itself):
    broken = zero_groups.of(2).run(step_without_guard, root, stage, precision, offload)
    assert any(broken) is not drops_itself


def find_scale(stage: int) -> dict[str, Any]:
    """Steps in fp16 of a plain layer whose gradient is 2^8 times its input, from a loss scale of 2^10."""
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    get_accelerator().is_fp16_supported = lambda: True  # DeepSpeed offers it on few CPUs; torch computes it on all
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 8, bias=False)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
        config={
            "train_batch_size": dist.get_world_size(),
            "fp16": {"enabled": True, "initial_scale_power": 10, "loss_scale_window": 1000, "min_loss_scale": 4},
            "zero_optimization": {"stage": stage, "overlap_comm": False, "stage3_param_persistence_threshold": 0},
            "zero_allow_untested_optimizer": True,
            "gradient_clipping": 0.0,
        },
        dist_init_required=False,
    )
    guard = HostStep(engine)

    def attempt(size: float, *, loss: float = 1.0) -> tuple[float, tuple[float, float] | None, float]:
        engine.backward(engine(torch.full((1, 8), size, dtype=torch.half)).sum() * 256)
        norm = float(guard.step(torch.tensor(loss)))
        return norm, guard.lowered and tuple(guard.lowered), float(engine.optimizer.loss_scale)

    found: dict[str, Any] = {"over": []}
    while not found["over"] or found["over"][-1][1]:
        found["over"].append(attempt(1.0))
    found["again"] = attempt(1.0)
    before = [parameter.detach().clone() for parameter in engine.optimizer.optimizer.param_groups[0]["params"]]
    found["infinite"] = attempt(1.0, loss=math.inf)
    found["broken"] = []
    while not found["broken"] or found["broken"][-1][1]:
        found["broken"].append(attempt(math.nan))
    after = [parameter.detach() for parameter in engine.optimizer.optimizer.param_groups[0]["params"]]
    found["broken_changed_nothing"] = all(map(torch.equal, before, after))
    found["then"] = attempt(1.0)
    engine.destroy()
    return found


def test_deepspeed_does_not_scale_the_loss_at_stage_0_which_is_why_fp16_is_refused_there(zero_groups):
    (found,) = zero_groups.of(1).run(find_scale, 0)
    assert found["over"] == [(pytest.approx(256 * 8), None, 1024)]  # 2^10 * 2^8 would not fit


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_an_overflow_in_fp16_asks_for_the_step_again_at_a_lower_scale_until_it_fits(zero_groups, stage):
    (found,) = zero_groups.of(1).run(find_scale, stage)
    *lowered, taken = found["over"]
    # 2^10 * 2^8 and all that is above 65504 do not fit fp16.
    assert [step[1] for step in lowered] == [(1024, 512), (512, 256), (256, 128)]
    assert all(math.isnan(step[0]) for step in lowered)
    assert taken == found["again"] == (pytest.approx(256 * 8), None, 128)
    # What is not the scale's leaves it as it was: an infinite loss, and a gradient that is NaN at any scale.
    assert math.isnan(found["infinite"][0])
    assert found["infinite"][1:] == (None, 128)
    assert [step[1] for step in found["broken"]] == [(128, 64), (64, 32), (32, 16), (16, 8), (8, 4), None]
    assert math.isnan(found["broken"][-1][0])
    assert found["broken"][-1][2] == 128
    assert found["broken_changed_nothing"]
    assert found["then"][0] == pytest.approx(256 * 8)


class _Optimizer:
    overflow = False
    compute_grad_norm = True

    def scaled_global_norm(self):
        return torch.tensor(1.0)


class _Engine:
    """Reports that it took a step whose norm is not finite."""

    def __init__(self) -> None:
        self.optimizer = _Optimizer()

    def step(self):
        pass

    def was_step_applied(self):
        return True

    def get_global_grad_norm(self):
        return torch.tensor(float("inf"))


def test_a_norm_that_is_switched_off_is_refused():
    engine = _Engine()
    engine.optimizer.compute_grad_norm = False
    with pytest.raises(ConfigError, match=r"zero_optimization\.compute_grad_norm is false") as error:
        atomic_step(engine)
    assert "delete compute_grad_norm" in error.value.fix


def test_a_step_that_was_taken_in_spite_of_its_norm_is_not_skipped():
    with pytest.raises(Exception, match="DeepSpeed took a step whose gradient norm is inf"):
        HostStep(_Engine()).step(torch.tensor(1.0))
