"""The chunked loss equals a plain fp32 cross-entropy, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from cpt_ray.model.layers import chunks as chunks_module
from cpt_ray.model.loss import IGNORED, ChunkedCrossEntropy, LogitRule, token_nats


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
    monkeypatch.setattr(chunks_module, "CHUNK_ROWS", 32)  # several chunks, the last one short
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


RULES = {
    "plain": LogitRule(),
    "scaled": LogitRule(scale=0.25),
    "capped": LogitRule(softcap=3.0),
    "both": LogitRule(scale=2.0, softcap=3.0),
}


@pytest.mark.parametrize("chunk", [16, 33, 2048])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_scale_cap_and_bias_equal_the_reference(monkeypatch, chunk, rule, dtype, tolerance):
    monkeypatch.setattr(chunks_module, "CHUNK_ROWS", chunk)
    hidden, weight, labels = problem(70, dtype)
    bias = torch.linspace(-1, 1, 101).to(dtype).requires_grad_()
    total = ChunkedCrossEntropy.apply(hidden, weight, labels, bias, rule)
    total.backward()
    h, w, b = (tensor.detach().float().requires_grad_() for tensor in (hidden, weight, bias))
    logits = (h @ w.T + b) * rule.scale
    if rule.softcap is not None:
        logits = torch.tanh(logits / rule.softcap) * rule.softcap
    expected = functional.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=tolerance)
    for ours, theirs in ((hidden, h), (weight, w), (bias, b)):
        assert (ours.grad.float() - theirs.grad).norm() <= tolerance * theirs.grad.norm()
    nats = token_nats(hidden, weight, labels, bias, rule)
    assert nats.sum().item() == pytest.approx(expected.item(), rel=tolerance)
    assert (nats[::5] == 0).all()


def test_a_frozen_output_embedding_gets_no_gradient():
    hidden, weight, labels = problem(16, torch.float32)
    ChunkedCrossEntropy.apply(hidden, weight.detach(), labels).backward()
    torch.testing.assert_close(hidden.grad, reference(hidden, weight, labels)[1])
