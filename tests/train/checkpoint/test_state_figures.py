"""The state guard: figures checked by hand for a real optimizer in every precision, and a difference that is refused."""

from __future__ import annotations

import math

import pytest
import torch

from cpt_ray.errors import TrainingError
from cpt_ray.model.bases.window import LEAST_POSITIONS
from cpt_ray.model.precision import PRECISIONS
from cpt_ray.records import StateFigures
from cpt_ray.train.checkpoint.state_figures import measure_state, require_same_state

SAVED = StateFigures(loss=3.0, weights_norm=10.0, moments={"exp_avg": 1.0, "exp_avg_sq": 0.1}, optimizer_steps=7)


class MixedPrecision:
    """What DeepSpeed keeps at ZeRO 0 to 2: weights in some precision, and an Adam over their fp32 masters."""

    def __init__(self, dtype):
        generator = torch.Generator().manual_seed(0)
        self.embedding = torch.randn(50, 8, generator=generator).to(dtype)
        self.masters = [torch.nn.Parameter(self.embedding.float())]
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-2)

    def step(self):
        ids = torch.arange(50)
        self.optimizer.zero_grad()
        (self.masters[0][ids].sum(1) ** 2).mean().backward()
        self.optimizer.step()
        self.embedding = self.masters[0].detach().to(self.embedding.dtype, copy=True)

    def score(self, row, lengths, masked):
        assert (len(row), lengths, masked) == (LEAST_POSITIONS, (LEAST_POSITIONS,), True)
        return -torch.log_softmax((self.embedding[row] @ self.embedding.T).float(), -1)[torch.arange(len(row)), row]

    def measure(self):
        moments = ("exp_avg", "exp_avg_sq")
        device = torch.device("cpu")
        return measure_state(self.score, self, moments=moments, zero_stage=0, vocabulary_size=50, device=device)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.usefixtures("one_worker")
def test_the_figures_are_those_of_the_optimizer_and_a_copy_of_it_passes(precision):
    trained = MixedPrecision(PRECISIONS[precision].dtype)
    for _ in range(3):
        trained.step()
    figures = trained.measure()
    (state,) = trained.optimizer.state.values()
    assert figures.optimizer_steps == 3
    assert figures.weights_norm == pytest.approx(float(trained.masters[0].detach().double().norm()), rel=1e-12)
    assert figures.moments["exp_avg"] == pytest.approx(float(state["exp_avg"].double().norm()), rel=1e-12)
    assert figures.moments["exp_avg_sq"] == pytest.approx(float(state["exp_avg_sq"].double().norm()), rel=1e-12)
    assert 0 < figures.loss < math.inf
    loaded = MixedPrecision(PRECISIONS[precision].dtype)
    loaded.step()
    loaded.optimizer.load_state_dict(trained.optimizer.state_dict())
    with torch.no_grad():
        loaded.masters[0].copy_(trained.masters[0])
    with pytest.raises(TrainingError, match="loss was"):  # the masters were restored, the weights in use were not
        require_same_state(figures, loaded.measure(), precision=precision, place="ckpt")
    loaded.embedding = trained.embedding.clone()
    require_same_state(figures, loaded.measure(), precision=precision, place="ckpt")


@pytest.mark.usefixtures("one_worker")
def test_step_counts_that_differ_are_refused():
    trained = MixedPrecision(torch.float32)
    trained.step()
    extra = torch.nn.Parameter(torch.ones(2))
    trained.optimizer.add_param_group({"params": [extra]})
    extra.grad = torch.ones(2)
    trained.step()  # zeroes that gradient first
    extra.grad = torch.ones(2)
    trained.optimizer.step()
    with pytest.raises(TrainingError, match="step counts range from 1 to 3"):
        trained.measure()


def test_a_state_that_is_not_the_saved_one_is_refused_figure_by_figure():
    require_same_state(SAVED, SAVED.model_copy(update={"weights_norm": 10.0 * (1 + 1e-7)}), precision="fp32", place="ckpt")
    for name, change in (
        ("loss", {"loss": 3.001}),
        ("weights_norm", {"weights_norm": 10.1}),
        ("exp_avg_norm", {"moments": {"exp_avg": 0.0, "exp_avg_sq": 0.1}}),
        ("exp_avg_sq_norm", {"moments": {"exp_avg": 1.0, "exp_avg_sq": float("nan")}}),
        ("exp_avg_sq_norm", {"moments": {"exp_avg": 1.0}}),
        ("other_norm", {"moments": {**SAVED.moments, "other": 0.0}}),
    ):
        with pytest.raises(TrainingError, match=f"ckpt: the loaded state differs from the saved one: {name} was") as error:
            require_same_state(SAVED, SAVED.model_copy(update=change), precision="fp32", place="ckpt")
        assert error.value.fix.startswith("delete ckpt to resume from an earlier checkpoint")
    with pytest.raises(TrainingError, match="optimizer_steps was 7 and is 8"):
        require_same_state(SAVED, SAVED.model_copy(update={"optimizer_steps": 8}), precision="bf16", place="ckpt")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_allows_for_rounding_of_the_loss_and_for_nothing_else(precision):
    require_same_state(SAVED, SAVED.model_copy(update={"loss": 3.001}), precision=precision, place="ckpt")
    with pytest.raises(TrainingError, match=r"loss was 3 and is 3\.01"):
        require_same_state(SAVED, SAVED.model_copy(update={"loss": 3.01}), precision=precision, place="ckpt")
    with pytest.raises(TrainingError, match=r"weights_norm was 10 and is 10\.001"):
        require_same_state(SAVED, SAVED.model_copy(update={"weights_norm": 10.001}), precision=precision, place="ckpt")
