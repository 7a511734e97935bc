"""Tiny models of several architectures, and the comparison of their compiled layers with their eager ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from cpt_ray.model.attention.isolation import hidden_states, use_document_attention
from cpt_ray.model.layers.compiled import compile_layers, remove
from cpt_ray.records import CompiledLayers
from tests.evaluate.tiny import build_model

TOKENS = 192
VOCABULARY = 200
ROWS = 50

_SHARED = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": TOKENS,
    "initializer_range": 0.2,
}

ARCHITECTURES = {
    "llama": lambda: build_model(VOCABULARY),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_SHARED)),
    # Every other layer has a sliding window, so there are two kinds of layers.
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**_SHARED, head_dim=16, sliding_window=TOKENS, attn_logit_softcapping=None, query_pre_attn_scalar=16)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            n_embd=32, n_layer=2, n_head=2, vocab_size=VOCABULARY, n_positions=TOKENS, initializer_range=0.2,
            embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
        )
    ),
}  # fmt: skip


def tiny(architecture: str) -> PreTrainedModel:
    """A model with document attention."""
    torch.manual_seed(0)
    model = ARCHITECTURES[architecture]()
    use_document_attention(model)
    return model


def row(number: int, device: torch.device) -> tuple[Tensor, tuple[int, ...]]:
    """Ids [TOKENS] and lengths, different in every row."""
    generator = torch.Generator().manual_seed(number)
    cuts: list[int] = []
    while sum(cuts) < TOKENS:
        cuts.append(min(int(torch.randint(1, 90, (1,), generator=generator)), TOKENS - sum(cuts)))
    return torch.randint(VOCABULARY, (TOKENS,), generator=generator).to(device), tuple(cuts)


def loss_and_gradients(model: PreTrainedModel, number: int) -> list[Tensor]:
    """A loss that depends on every hidden state, and the gradients of all parameters."""
    ids, lengths = row(number, model.device)
    hidden = hidden_states(model, ids, lengths).float()
    weight = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(number)).to(hidden)
    loss = (hidden * weight).sum() / TOKENS
    trained = [p for p in model.base_model.parameters() if p.requires_grad]
    return [loss.detach(), *(gradient.float() for gradient in torch.autograd.grad(loss, trained))]


def check_compiled_against_eager(model: PreTrainedModel, *, tolerance: float) -> CompiledLayers:
    """Compile, compare loss, gradients and scores with eager ones, and run rows of different documents without compiling."""
    torch._dynamo.reset()  # another test's graphs would be reused
    model.train()
    eager = [loss_and_gradients(model, number) for number in range(2)]
    model.eval()
    with torch.no_grad():
        scored = hidden_states(model, *row(0, model.device))
    model.train()
    result = compile_layers(model, tokens=TOKENS, limit_s=900)
    assert result.active, result.reason
    graphs = counters["stats"]["unique_graphs"]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for number, expected in enumerate(eager):
            found = loss_and_gradients(model, number)
            assert abs(found[0] - expected[0]) <= tolerance * max(abs(float(expected[0])), 1.0)
            errors = [float((one - other).norm() / other.norm()) for one, other in zip(found[1:], expected[1:], strict=True)]
            assert max(errors) <= tolerance, errors
        seen = {row(number, model.device)[1] for number in range(ROWS)}
        assert len(seen) == ROWS
        for number in range(ROWS):
            loss_and_gradients(model, number)
        model.eval()
        with torch.no_grad():
            found = hidden_states(model, *row(0, model.device))
            for number in range(ROWS):
                hidden_states(model, *row(number, model.device))
    assert counters["stats"]["unique_graphs"] == graphs
    assert (found - scored).norm() <= tolerance * scored.norm()
    remove(model)
    return result
