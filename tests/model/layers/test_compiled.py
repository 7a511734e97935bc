"""Compiled decoder layers: what they compute, when they compile, and what happens when they cannot be compiled."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch._dynamo.utils import counters
from transformers.models.llama.modeling_llama import LlamaMLP

from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.errors import TrainingError
from cpt_ray.model.attention.isolation import hidden_states
from cpt_ray.model.bases.window import LEAST_POSITIONS
from cpt_ray.model.layers import compiled
from cpt_ray.model.layers.adapter import add_adapters
from cpt_ray.model.layers.compiled import compile_layers, compiled_scoring, compiles, decoder_layers, filler_lengths, install
from tests.model.layers.compiled_models import TOKENS, check_compiled_against_eager, loss_and_gradients, row, tiny

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.slow
@pytest.mark.accept(gpu=2)
def test_compiled_layers_equal_eager_ones_and_no_row_compiles_again():
    model = tiny("llama")
    before = counters["stats"]["unique_graphs"]
    result = check_compiled_against_eager(model, tolerance=1e-5)
    assert len(decoder_layers(model)) > 1
    assert result.graphs == counters["stats"]["unique_graphs"] - before == 2  # training and scoring, for all layers
    assert result.seconds > 0
    again = compile_layers(tiny("llama"), tokens=TOKENS, limit_s=900)
    assert again.active
    assert again.graphs == 0, "the next run of a process compiles nothing"


@pytest.mark.full  # a minute of the C++ compiler each
@pytest.mark.parametrize("architecture", ["qwen2", "gemma2", "gpt2"])
@pytest.mark.accept(gpu=2)
def test_other_architectures_compile_whole_too(architecture):
    result = check_compiled_against_eager(tiny(architecture), tolerance=1e-5)
    assert result.graphs == (4 if architecture == "gemma2" else 2)


@pytest.mark.full
@pytest.mark.accept(gpu=2)
def test_compiled_layers_in_bf16_are_as_near_to_fp32_as_eager_ones(record_property):
    def gradient(model):
        return torch.cat([part.flatten() for part in loss_and_gradients(model, 0)[1:]])

    exact, model = gradient(tiny("llama")), tiny("llama").to(torch.bfloat16)
    eager = gradient(model)
    assert compile_layers(model, tokens=TOKENS, limit_s=900).active
    errors = [float((found - exact).norm() / exact.norm()) for found in (eager, gradient(model))]
    record_property("gradient's relative error, eager and compiled", "{:.3g} {:.3g}".format(*errors))
    assert errors[1] < 1.5 * errors[0]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["checkpointed", "adapted"])
def test_checkpointing_and_adapters_compile_too(kind):
    model = tiny("llama")
    if kind == "checkpointed":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        add_adapters(model, LoraSection(rank=4, alpha=16, dropout=0.0))
        model.enable_input_require_grads()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)  # zeros would hide the other matrix's gradient
    check_compiled_against_eager(model, tolerance=1e-5)


def test_auto_compiles_on_a_gpu_only():
    assert compiles("auto", GPU)
    assert not compiles("auto", CPU)
    assert compiles(True, CPU)
    assert not compiles(False, GPU)


def test_filler_is_short_and_fills_exactly():
    assert filler_lengths(0) == []
    assert filler_lengths(LEAST_POSITIONS) == [LEAST_POSITIONS]
    assert filler_lengths(3 * LEAST_POSITIONS + 8) == [*[LEAST_POSITIONS] * 3, 8]


def test_a_layer_that_cannot_be_traced_leaves_the_model_as_it_was(monkeypatch):
    torch._dynamo.reset()  # a graph of the traceable layer would still be taken as valid
    model = tiny("llama")
    expected = loss_and_gradients(model, 0)
    random = torch.get_rng_state()

    def untraceable(self, hidden):
        torch._dynamo.graph_break()
        return self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))

    monkeypatch.setattr(LlamaMLP, "forward", untraceable)
    result = compile_layers(model, tokens=TOKENS, limit_s=900)
    assert not result.active
    assert "graph_break" in result.reason
    assert "\n" not in result.reason
    assert all("forward" not in layer.__dict__ for layer in decoder_layers(model))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    for one, other in zip(loss_and_gradients(model, 0), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_compilation_that_never_ends_is_stopped_at_its_limit(monkeypatch):
    def endless(_forward):
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(compiled, "_compiled", endless)
    waits: list[int] = []
    result = compile_layers(tiny("llama"), tokens=TOKENS, limit_s=1, on_wait=lambda: waits.append(1))
    assert not result.active
    assert result.reason == "compiling was stopped at its limit of 1 s"
    assert 1 <= result.seconds < 30
    assert waits
    assert not any(thread.name == "compile" for thread in threading.enumerate()), "it still runs"


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2"])
def test_rows_of_several_windows_compile_in_documents_that_the_model_can_take(architecture, monkeypatch):
    """Four rows a pass: as one document they would exceed GPT-2's learned positions, and Gemma's sliding window."""
    monkeypatch.setattr(compiled, "_compiled", lambda forward: forward)
    with pytest.raises((IndexError, TrainingError)):
        hidden_states(tiny(architecture), torch.zeros(4 * TOKENS, dtype=torch.int64), (4 * TOKENS,))
    result = compile_layers(tiny(architecture), tokens=4 * TOKENS, limit_s=900)
    assert result.active, result.reason


def test_a_model_without_declared_layers_is_not_compiled():
    model = tiny("llama")
    model._no_split_modules = None
    result = compile_layers(model, tokens=TOKENS, limit_s=900)
    assert result.reason == "TrainingError: LlamaForCausalLM does not declare its layer classes"


def test_installed_and_removed_layers_have_their_forward_passes(monkeypatch):
    model = tiny("llama")
    calls = []

    def counted(forward):
        def run(layer, *args, **kwargs):
            calls.append(layer)
            return forward(layer, *args, **kwargs)

        return run

    monkeypatch.setattr(compiled, "_compiled", counted)
    install(model)
    with torch.no_grad():
        hidden_states(model, *row(0, CPU))
    assert calls == decoder_layers(model)
    compiled.remove(model)
    with torch.no_grad():
        hidden_states(model, *row(0, CPU))
    assert calls == decoder_layers(model)


@pytest.mark.accept(gpu=2)
def test_scoring_compiles_where_it_pays_and_leaves_the_model_uncompiled(monkeypatch):
    model = tiny("llama").eval()
    monkeypatch.setattr(compiled, "_compiled", lambda forward: forward)

    def settled(setting, tokens):
        with compiled_scoring(model, setting, num_tokens=tokens, row_tokens=TOKENS, limit_s=900) as row_tokens:
            runs = any("forward" in layer.__dict__ for layer in decoder_layers(model))
        assert not any("forward" in layer.__dict__ for layer in decoder_layers(model))
        assert runs == (row_tokens is not None)
        return row_tokens

    much = int(1e16)
    assert settled("auto", much) is None  # a CPU
    assert settled(True, 1) == TOKENS
    assert settled(False, much) is None
    monkeypatch.setattr(compiled, "compiles", lambda setting, _device: bool(setting))  # as on a GPU
    assert settled("auto", much) == TOKENS
    assert settled("auto", 10_000) is None


def test_scoring_goes_on_uncompiled_if_compiling_fails(monkeypatch, caplog):
    def broken(_forward):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compiled, "_compiled", broken)
    with compiled_scoring(tiny("llama"), True, num_tokens=1, row_tokens=TOKENS, limit_s=900) as row_tokens:
        assert row_tokens is None
    assert "layers are not compiled, scoring is slower: RuntimeError: no compiler" in caplog.text
