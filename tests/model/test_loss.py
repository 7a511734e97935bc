"""The chunked loss equals a plain fp32 cross-entropy, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from cpt_ray.model import loss as loss_module
from cpt_ray.model.loss import IGNORED, ChunkedCrossEntropy, LossHead, token_nats


def problem(rows: int, dtype: torch.dtype):
    torch.manual_seed(0)
    hidden = torch.randn(rows, 32).to(dtype).requires_grad_()
    weight = (torch.randn(101, 32) * 0.3).to(dtype).requires_grad_()
    labels = torch.randint(101, (rows,))
    labels[::5] = IGNORED
    return hidden, weight, labels


def reference(hidden, weight, labels):
    h, w = hidden.detach().float().requires_grad_(), weight.detach().float().requires_grad_()
    total = functional.cross_entropy(h @ w.T, labels, reduction="sum", ignore_index=IGNORED)
    total.backward()
    return total.item(), h.grad, w.grad


@pytest.mark.parametrize("rows", [1, 33, 70])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_sum_and_gradients_equal_the_reference(monkeypatch, rows, dtype, tolerance):
    monkeypatch.setattr(loss_module, "_CHUNK_ROWS", 32)  # several chunks, the last one short
    hidden, weight, labels = problem(rows, dtype)
    total = ChunkedCrossEntropy.apply(hidden, weight, labels)
    total.backward()
    value, grad_hidden, grad_weight = reference(hidden, weight, labels)
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(value, rel=tolerance)
    assert (hidden.grad.float() - grad_hidden).norm() <= tolerance * grad_hidden.norm() + 1e-6
    assert (weight.grad.float() - grad_weight).norm() <= tolerance * grad_weight.norm() + 1e-6


def test_a_scaled_loss_scales_its_gradients():
    hidden, weight, labels = problem(16, torch.float32)
    (ChunkedCrossEntropy.apply(hidden, weight, labels) * 0.25).backward()
    _, grad_hidden, _ = reference(hidden, weight, labels)
    torch.testing.assert_close(hidden.grad, grad_hidden * 0.25)


def test_token_nats_add_up_to_the_sum_and_ignored_rows_score_zero():
    hidden, weight, labels = problem(50, torch.float32)
    nats = token_nats(hidden, weight, labels)
    assert nats.shape == (50,)
    assert (nats[::5] == 0).all()
    assert nats.sum().item() == pytest.approx(reference(hidden, weight, labels)[0], rel=1e-5)


def test_a_loss_head_without_labels_gives_logits():
    head = LossHead(torch.nn.Parameter(torch.eye(4)))
    assert head(torch.ones(2, 4)).tolist() == [[1.0] * 4] * 2
