"""The choice of a loss kernel: what works is chosen, what is missing or broken is passed over and named."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from cpt_ray.model.layers import loss_kernels
from cpt_ray.model.layers.loss_kernels import CHUNKED, COMPILED, LIGER, choose_kernel, summed_nats, works
from cpt_ray.model.loss import IGNORED, ChunkedCrossEntropy, LogitRule

CPU = torch.device("cpu")
RULES = {"plain": LogitRule(), "both": LogitRule(scale=0.25, softcap=5.0)}
TYPES = (torch.float32, torch.bfloat16)


def try_on_cpu(kernel, rule=RULES["plain"], dtype=torch.float32, *, biased=False):
    return works(kernel, CPU, dtype, rule, biased=biased)


def liger_that(monkeypatch, compute):
    """A stand-in for the package, which needs a GPU: what matters here is what is made of its failures."""

    class Loss(torch.nn.Module):
        def __init__(self, **settings):
            super().__init__()
            self.settings = settings

        def forward(self, weight, hidden, labels, bias):
            return compute(self.settings, weight, hidden, labels, bias)

    package = ModuleType("liger_kernel.transformers")
    package.LigerFusedLinearCrossEntropyLoss = Loss
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)


def whole_logits(settings, weight, hidden, labels, bias):
    rule = LogitRule(softcap=settings.get("softcap"))
    logits = rule.apply(torch.nn.functional.linear(hidden, weight, bias).float())
    return torch.nn.functional.cross_entropy(
        logits, labels, ignore_index=settings["ignore_index"], reduction=settings["reduction"]
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("biased", [False, True])
def test_chunks_work_everywhere_and_a_cpu_uses_them(rule, dtype, biased):
    with torch.inference_mode():  # a model may be asked to score first
        assert try_on_cpu(CHUNKED, rule, dtype, biased=biased)
    assert choose_kernel(CPU, dtype, rule, biased=biased) == CHUNKED


@pytest.mark.full  # half a minute of the C++ compiler
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_compiled_softmax_equals_the_other_and_is_compiled_once_for_all_lengths(monkeypatch, rule, dtype):
    from torch._dynamo.utils import counters

    monkeypatch.setattr("cpt_ray.model.layers.chunks.CHUNK_ROWS", 32)
    torch._dynamo.reset()
    counters.clear()
    assert try_on_cpu(COMPILED, rule, dtype, biased=True)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 2  # with gradients and without
    for rows in (70, 55, 40, 64):
        torch.manual_seed(rows)
        hidden = torch.randn(rows, 64).to(dtype)
        weight = torch.randn(320, 64).mul(0.5).to(dtype)
        labels = torch.randint(320, (rows,))
        labels[::3] = IGNORED
        bias = torch.linspace(-1, 1, 320).to(dtype)
        found = []
        for kernel in (CHUNKED, COMPILED):
            h, w, b = (tensor.clone().requires_grad_() for tensor in (hidden, weight, bias))
            total = summed_nats(kernel, h, w, labels, b, rule)
            total.backward()
            found.append((total.detach(), h.grad, w.grad, b.grad))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4 if dtype == torch.float32 else 2e-2, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == graphs


def test_a_package_that_is_missing_is_named_and_one_that_fails_is_warned_about(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    assert not try_on_cpu(LIGER)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "Liger fused linear cross-entropy is not used: " in caplog.text

    def fail(*_):
        raise RuntimeError("no kernel image is available\nmore")

    caplog.clear()
    liger_that(monkeypatch, fail)
    assert not try_on_cpu(LIGER)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"{LIGER} is not used, it failed: RuntimeError: no kernel image is available"


@pytest.mark.parametrize(
    ("compute", "problem"),
    [
        (lambda *problem: whole_logits(*problem) * 1.1, "it differs by 0.1 from a plain cross-entropy"),
        (lambda *problem: whole_logits(*problem) * float("nan"), "it differs by nan from a plain cross-entropy"),
        (lambda *problem: whole_logits(*problem).detach(), "it failed: RuntimeError: "),
        (
            lambda settings, weight, *rest: whole_logits(settings, weight.detach(), *rest),
            "it failed: RuntimeError: 1 gradients instead of 2",
        ),
    ],
    ids=["another loss", "not a number", "no gradients", "a gradient missing"],
)
def test_a_package_that_computes_something_else_is_warned_about(monkeypatch, caplog, compute, problem):
    liger_that(monkeypatch, compute)
    assert not try_on_cpu(LIGER)
    assert problem in caplog.text


@pytest.mark.parametrize("rule", [*RULES.values(), LogitRule(scale=3.0), LogitRule(softcap=2.0)])
def test_a_scale_and_a_cap_are_handed_to_liger(monkeypatch, rule):
    liger_that(monkeypatch, whole_logits)
    assert try_on_cpu(LIGER, rule, biased=True)


@pytest.mark.parametrize(
    ("working", "expected"), [({COMPILED, LIGER}, COMPILED), ({LIGER}, LIGER), ({COMPILED}, COMPILED), (set(), CHUNKED)]
)
def test_a_gpu_uses_compiled_chunks_then_liger_then_chunks(monkeypatch, working, expected):
    monkeypatch.setattr(loss_kernels, "works", lambda kernel, *_, **__: kernel in working)
    assert choose_kernel(torch.device("cuda"), torch.bfloat16, LogitRule(), biased=False) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [LIGER, COMPILED, CHUNKED])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("biased", [False, True])
def test_every_kernel_works_on_a_gpu(kernel, dtype, rule, biased):
    if kernel == LIGER:
        pytest.importorskip("liger_kernel")
    assert works(kernel, torch.device("cuda"), dtype, rule, biased=biased)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [COMPILED, CHUNKED])
def test_on_a_gpu_ours_neither_wait_for_the_device_nor_hold_all_logits(kernel):
    rows, classes = 16384, 49152
    hidden = torch.randn(rows, 576, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(classes, 576, device="cuda", dtype=torch.bfloat16).mul_(0.05).requires_grad_()
    labels = torch.randint(classes, (rows,), device="cuda")
    summed_nats(kernel, hidden, weight, labels, None, LogitRule()).backward()  # compiled before it is measured
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        summed_nats(kernel, hidden, weight, labels, None, LogitRule()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.max_memory_allocated() - before < rows * classes * 4 * 0.6  # half of all logits in fp32 would show


def test_a_frozen_output_embedding_needs_no_gradient():
    hidden, weight = torch.randn(8, 16, requires_grad=True), torch.randn(20, 16)
    summed_nats(CHUNKED, hidden, weight, torch.arange(8), None, LogitRule()).backward()
    expected = hidden.grad.clone()
    hidden.grad = None
    ChunkedCrossEntropy.apply(hidden, weight, torch.arange(8)).backward()
    assert torch.equal(hidden.grad, expected)
