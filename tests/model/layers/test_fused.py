"""Fused projections: the same names, states, outputs and gradients as separate ones, and only where the structure allows it."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from cpt_ray.model.attention.isolation import hidden_states, use_document_attention
from cpt_ray.model.layers.fused import SEPARATE, FusedLinear, fuse_projections
from tests.model.test_head import SIZES, VOCABULARY

QKV, MLP = "q_proj+k_proj+v_proj in 2 layers", "gate_proj+up_proj in 2 layers"
BOTH = f"{QKV}, {MLP}"
MODELS = {
    "Llama": ({}, BOTH),
    "Mistral": ({"sliding_window": None}, BOTH),
    "Qwen2": ({}, BOTH),  # biases
    "Qwen3": ({"head_dim": 8}, BOTH),  # norms after the projections
    "Gemma2": ({"head_dim": 8, "attn_logit_softcapping": None, "sliding_window": 64}, BOTH),
    "Olmo2": ({}, BOTH),
    "Phi": ({"num_key_value_heads": 4}, QKV),
    "Mixtral": ({}, QKV),
    "Phi3": ({}, SEPARATE),  # has fused weights already
    "GPTNeoX": ({}, SEPARATE),
}
IDS = torch.randint(VOCABULARY, (40,), generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.randn(40, 32, generator=torch.Generator().manual_seed(2))


def build(name: str, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **MODELS[name][0]})
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
    use_document_attention(model)
    return model.to(dtype).eval()


def differentiate(model):
    model.zero_grad()
    hidden = hidden_states(model, IDS, (25, 15))
    (hidden.float() * WEIGHTS).sum().backward()
    return hidden.detach().float(), {key: p.grad.float() for key, p in model.named_parameters() if p.grad is not None}


def assert_same(found, expected, tolerance):
    assert (found[0] - expected[0]).norm() <= tolerance * expected[0].norm()
    assert set(found[1]) == set(expected[1])
    for key, gradient in expected[1].items():
        assert (found[1][key] - gradient).norm() <= tolerance * gradient.norm(), key


def fused_parts(model):
    return [module for module in model.modules() if isinstance(module, FusedLinear)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_outputs_and_gradients_stay_and_so_do_names_and_states(name, dtype, tolerance):
    separate, fused = build(name, dtype), build(name, dtype)
    assert fuse_projections(fused) == MODELS[name][1]
    assert bool(fused_parts(fused)) == (MODELS[name][1] != SEPARATE)
    assert [key for key, _ in fused.named_parameters()] == [key for key, _ in separate.named_parameters()]
    states = [model.state_dict() for model in (separate, fused)]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])  # bit for bit
    fused.load_state_dict(states[0])  # strict
    assert_same(differentiate(fused), differentiate(separate), tolerance)
    assert all(part.idle for part in fused_parts(fused))


def test_a_layer_makes_one_product_and_its_own_are_not_called():
    model = build("Llama")
    fuse_projections(model)
    calls = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | FusedLinear):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    hidden_states(model, IDS, (40,))
    attention, mlp = "model.layers.0.self_attn", "model.layers.0.mlp"
    assert [name for name in calls if ".0." in name] == [
        f"{attention}.fused_q_proj", f"{attention}.o_proj", f"{mlp}.fused_gate_proj", f"{mlp}.down_proj",
    ]  # fmt: skip


@pytest.mark.parametrize("reentrant", [False, True])
def test_with_gradient_checkpointing_too(reentrant):
    separate, fused = build("Qwen2"), build("Qwen2")
    fuse_projections(fused)
    fused.train()
    fused.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    fused.enable_input_require_grads()
    assert_same(differentiate(fused), differentiate(separate), 1e-5)


def test_weights_follow_a_conversion_and_a_load():
    fused = build("Llama")
    fuse_projections(fused)
    with torch.no_grad():
        fused.model.layers[0].self_attn.get_submodule("k_proj").weight.mul_(2)
    changed = build("Llama")
    changed.load_state_dict(fused.state_dict())
    assert_same(differentiate(fused.double().float()), differentiate(changed), 1e-5)


class OtherInput(nn.Module):
    """Attention whose keys and values are of another tensor, as in cross-attention."""

    def __init__(self, inner):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = inner.q_proj, inner.k_proj, inner.v_proj, inner.o_proj

    def forward(self, hidden_states, **_):
        other = hidden_states.flip(-1)
        return self.o_proj(self.q_proj(hidden_states) + (self.k_proj(other) + self.v_proj(other)).repeat(1, 1, 2)), None


class Scaled(nn.Linear):
    """A layer that computes something else than its weight says."""

    def forward(self, hidden):
        return 2 * super().forward(hidden)


def test_layers_with_other_inputs_and_other_kinds_of_layers_stay_separate():
    models = []
    for _ in range(2):
        model = build("Llama")
        first, second = model.model.layers
        first.self_attn = OtherInput(first.self_attn)
        second.mlp.up_proj.__class__ = Scaled
        models.append(model)
    assert fuse_projections(models[1]) == "q_proj+k_proj+v_proj in 1 layer, gate_proj+up_proj in 1 layer"
    assert type(models[1].model.layers[0].self_attn.q_proj) is nn.Linear  # as it was
    assert "fused_q_proj" not in dict(models[1].model.layers[0].self_attn.named_children())
    assert_same(differentiate(models[1]), differentiate(models[0]), 1e-5)


def test_a_fused_model_that_computes_something_else_is_taken_apart(monkeypatch, caplog):
    model, separate = build("Llama"), build("Llama")
    monkeypatch.setattr(FusedLinear, "forward", lambda self, hidden: hidden.repeat(1, 1, 9)[..., : sum(self._rows)])
    assert fuse_projections(model) == SEPARATE
    assert not fused_parts(model)
    assert "fused projections change the hidden states of LlamaForCausalLM by " in caplog.text
    assert_same(differentiate(model), differentiate(separate), 0.0)


@pytest.mark.full  # ten seconds of the C++ compiler
def test_a_compiled_mlp_takes_it_into_its_graph():
    from torch._dynamo.utils import counters

    separate, fused = build("Llama"), build("Llama")
    fuse_projections(fused)
    counters.clear()
    for layer in fused.model.layers:
        layer.mlp.compile(fullgraph=True)  # a graph break is an error
    assert_same(differentiate(fused), differentiate(separate), 1e-5)
    assert counters["stats"]["unique_graphs"] == 1
