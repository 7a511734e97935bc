"""Rows per pass: candidates, the largest that fits, and the number that an out-of-memory error names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cpt_ray.config.deepspeed import check_deepspeed
from cpt_ray.errors import TrainingError
from cpt_ray.model.base import load_model
from cpt_ray.records import ModelShape
from cpt_ray.train.engine import micro_batch
from cpt_ray.train.engine.engine import Engine, PackedLossModel
from cpt_ray.train.engine.micro_batch import Passes, explain_out_of_memory, fits, largest_that_fits
from cpt_ray.train.monitor.metrics import read_metrics
from tests.train.tiny_run import T, run, tiny_config

GIB = 2**30
SHAPE = ModelShape(
    parameters=134_515_008, body_parameters=106_203_456, hidden_size=576, num_layers=30, num_heads=9, head_dim=64,
    vocabulary_size=49152, tied=True,
)  # fmt: skip


def passes_of(tmp_path, *, rows=96, row_tokens=2048, device="cuda", **train) -> Passes:
    return Passes(
        shape=SHAPE,
        train=tiny_config(tmp_path, **{"precision": "bf16", **train}).train,
        deepspeed=check_deepspeed({"zero_optimization": {"stage": 2}}, "ds.json"),
        num_workers=1,
        rows=rows,
        row_tokens=row_tokens,
        device=torch.device(device),
    )


def test_candidates_divide_a_workers_rows_and_end_where_a_device_is_no_faster(tmp_path):
    assert passes_of(tmp_path).candidates() == [32, 24, 16, 12, 8, 6, 4, 3, 2, 1]
    assert passes_of(tmp_path, rows=7).candidates() == [7, 1]
    assert passes_of(tmp_path, rows=8, row_tokens=512, device="cpu").candidates() == [4, 2, 1]
    assert passes_of(tmp_path, rows=8, row_tokens=8192, device="cpu").candidates() == [1]


@pytest.fixture
def small_memory(monkeypatch):
    """Passes of more than `rows` rows run out of memory; returns how many rows were tried."""
    forward, tried = PackedLossModel.forward, []

    def limit(rows: int):
        def short(self, ids, *args, **kwargs):
            tried.append(len(ids) // T)
            if len(ids) > rows * T:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(self, ids, *args, **kwargs)

        monkeypatch.setattr(PackedLossModel, "forward", short)
        return tried

    return limit


@pytest.mark.parametrize(("room", "chosen", "order"), [(99, 12, [12]), (5, 4, [12, 6, 4]), (0, 0, [12, 6, 4, 3, 2, 1])])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_largest_pass_that_fits_is_chosen_and_leaves_nothing_behind(
    root, tmp_path, small_memory, room, chosen, order, checkpointing
):
    lm = load_model(root / "model", precision="fp32")
    before = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    passes = passes_of(tmp_path, rows=12, row_tokens=T, device="cpu", gradient_checkpointing=checkpointing)
    tried = small_memory(room)
    assert largest_that_fits(passes, lm, block=1000) == chosen
    assert tried == order
    assert all(parameter.grad is None for parameter in lm.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in lm.state_dict().items())


def test_another_error_of_a_pass_is_not_taken_for_a_lack_of_memory(root, tmp_path, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ValueError("a bug")

    monkeypatch.setattr(PackedLossModel, "forward", broken)
    with pytest.raises(ValueError, match="a bug"):
        fits(1, passes_of(tmp_path, device="cpu"), load_model(root / "model", precision="fp32"), block=0)


def test_auto_trains_as_the_number_it_chose_and_is_on_record(root):
    one = run(root, "control", "auto", micro_batch_size="auto")
    four = run(root, "control", "four", micro_batch_size=4)
    assert one.training.last.micro_batch_size == four.training.last.micro_batch_size == 4
    assert [m.loss for m in read_metrics(root / "auto")] == [m.loss for m in read_metrics(root / "four")]


@pytest.mark.usefixtures("one_worker")
def test_an_error_names_the_micro_batch_that_should_fit(tmp_path):
    passes = passes_of(tmp_path)
    error = explain_out_of_memory(passes, 32, memory=24 * GIB)
    assert error.problem == (
        "rank 0: out of GPU memory with micro-batches of 32 rows of 2048 tokens; weights, gradients and optimizer take about "
        "2.3 GiB of 24.0 GiB"
    )
    assert "set train.micro_batch_size=12, which should fit, or auto" in error.fix
    assert "result" in error.fix
    # Where the estimate says that it should have fit, a clearly smaller one is named.
    assert passes.below(32, memory=200 * GIB) == 24
    assert passes.below(4, memory=200 * GIB) == 3
    assert passes.below(2, memory=200 * GIB) == 1
    # Recomputation needs a tenth.
    assert replace(passes, train=tiny_config(tmp_path, precision="bf16", gradient_checkpointing=True).train).below(
        32, memory=6 * GIB
    ) > passes.below(32, memory=6 * GIB)
    assert "train.micro_batch_size=1; if that does not fit either" in explain_out_of_memory(passes, 8, memory=2 * GIB).fix
    assert explain_out_of_memory(passes, 1, memory=2 * GIB).fix.startswith("set train.gradient_checkpointing=true")


def test_a_run_that_is_out_of_memory_ends_with_that_error(root, monkeypatch):
    accumulate = Engine.accumulate

    def short(self, micro_batches, *, loss_tokens):
        if self._engine.global_steps == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return accumulate(self, micro_batches, loss_tokens=loss_tokens)

    monkeypatch.setattr(Engine, "accumulate", short)
    monkeypatch.setattr(micro_batch, "_total_memory", lambda _: GIB)
    with pytest.raises(TrainingError, match="out of GPU memory with micro-batches of 4 rows of 64 tokens") as error:
        run(root, "control", "short", micro_batch_size=4)
    assert "set train.micro_batch_size=2" in error.value.fix
    assert [m.step for m in read_metrics(root / "short")] == [1, 2]


@pytest.mark.gpu
def test_on_a_gpu_a_block_of_memory_makes_the_choice_smaller(root, tmp_path):
    lm = load_model(root / "model", precision="bf16")
    passes = passes_of(tmp_path, rows=64, row_tokens=T)
    free, _ = torch.cuda.mem_get_info()
    assert largest_that_fits(passes, lm, block=0) == 64
    assert largest_that_fits(passes, lm, block=free + GIB) == 0
