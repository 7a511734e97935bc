"""A run with compiled layers, and each way in which it trains without them and says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cpt_ray.errors import TrainingError
from cpt_ray.model.attention.isolation import make_segments
from cpt_ray.model.layers import compiled
from cpt_ray.records import RunAttempt
from cpt_ray.train.engine import engine
from cpt_ray.train.monitor.metrics import read_events, read_metrics
from tests.train.tiny_run import run

SETTINGS = {"budgets": [500], "micro_batch_size": 4}
"""Rows of four times 64 tokens, which hold the self-test's."""


@pytest.fixture(scope="module")
def plain(root):
    """Losses of the uncompiled run."""
    run(root, "control", "plain", **SETTINGS)
    return losses(root / "plain")


def losses(folder) -> list[float]:
    return [step.loss for step in read_metrics(folder)]


def attempt(folder) -> RunAttempt:
    return RunAttempt.load(folder / "attempts" / "attempt-0001.json")


def warnings(folder) -> list[str]:
    return [event.text for event in read_events(folder) if event.kind == "warning"]


def traced(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A graph without a C++ compiler."""
    return torch.compile(forward, backend="aot_eager", dynamic=False, fullgraph=True)


def traced_without_mask(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A graph that takes the row for one document."""

    def leak(layer, hidden, *others, segments, **settings):
        whole = make_segments((hidden.shape[1],), device=hidden.device, kernel=segments.kernel)
        return graph(layer, hidden, *others, segments=whole, **settings)

    graph = traced(forward)
    return leak


def test_uncompiled_is_the_default_on_a_cpu(root, plain):
    assert attempt(root / "plain").compiled is None
    assert not [event for event in read_events(root / "plain") if event.kind == "compile"]
    assert plain


@pytest.mark.accept(gpu=4)
def test_a_compiled_run_has_the_losses_of_an_uncompiled_one_and_says_what_compiling_took(root, plain, monkeypatch):
    torch._dynamo.reset()  # another test's graphs would be reused
    monkeypatch.setattr(compiled, "_compiled", traced)
    run(root, "control", "compiled", compile=True, **SETTINGS)
    assert losses(root / "compiled") == pytest.approx(plain, rel=1e-5)
    found = attempt(root / "compiled")
    assert found.compiled.active
    assert found.compiled.reason is None
    assert found.compiled.graphs >= 2
    assert found.self_test.passed
    (event,) = [event for event in read_events(root / "compiled") if event.kind == "compile"]
    assert event.text == f"layers run compiled: {found.compiled.graphs} new graphs in {found.compiled.seconds:.1f} s"
    assert event.seconds == found.compiled.seconds > 0
    assert not warnings(root / "compiled")


@pytest.mark.accept(gpu=4)
def test_a_graph_without_the_mask_is_refused_by_the_self_test(root, monkeypatch):
    monkeypatch.setattr(compiled, "_compiled", traced_without_mask)
    with pytest.raises(TrainingError, match=r"isolation self-test failed on sdpa per document, fp32: .* crossing") as error:
        run(root, "control", "refused", compile=True, **SETTINGS)
    assert "train.compile=false" in error.value.fix


@pytest.mark.accept(gpu=4)
def test_with_auto_a_graph_without_the_mask_is_not_used_and_the_run_goes_on(root, plain, monkeypatch):
    monkeypatch.setattr(compiled, "_compiled", traced_without_mask)
    monkeypatch.setattr(engine, "compiles", lambda setting, _device: setting == "auto")  # as on a GPU
    run(root, "control", "fallen", **SETTINGS)
    assert losses(root / "fallen") == plain
    found = attempt(root / "fallen")
    assert not found.compiled.active
    assert found.compiled.reason.startswith("the isolation self-test failed on compiled layers: sdpa per document, fp32")
    assert found.self_test.passed
    (text,) = warnings(root / "fallen")
    assert text == f"layers are not compiled, training is slower: {found.compiled.reason}"


def test_a_compilation_beyond_its_limit_is_said_and_the_run_goes_on(root, plain, monkeypatch):
    def endless(_forward):
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(compiled, "_compiled", endless)
    run(root, "control", "slow", compile=True, compile_limit=1, **SETTINGS)
    assert losses(root / "slow") == plain
    assert attempt(root / "slow").compiled.reason == "worker 0: compiling was stopped at its limit of 1 s"
    assert warnings(root / "slow") == [
        "layers are not compiled, training is slower: worker 0: compiling was stopped at its limit of 1 s"
    ]
