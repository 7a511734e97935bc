"""The loss head reproduces the model's logits and gradients, whatever the architecture does to them, or refuses the model."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch.nn import functional

from cpt_ray.errors import ConfigError
from cpt_ray.model.attention.isolation import hidden_states
from cpt_ray.model.base import load_model
from cpt_ray.model.head import find_rule
from cpt_ray.model.layers.loss_kernels import CHUNKED
from cpt_ray.model.loss import IGNORED, LogitRule

VOCABULARY = 97
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "initializer_range": 0.2,
}  # fmt: skip
ARCHITECTURES = {
    "Llama": ({"tie_word_embeddings": False}, LogitRule()),
    "Mistral": ({"sliding_window": None}, LogitRule()),
    "Qwen2": ({"tie_word_embeddings": True}, LogitRule()),
    "GPTNeoX": ({}, LogitRule()),
    "Phi": ({"num_key_value_heads": 4}, LogitRule()),
    "Gemma2": (
        {"head_dim": 8, "final_logit_softcapping": 5.0, "attn_logit_softcapping": None, "sliding_window": 64},
        LogitRule(softcap=5.0),
    ),
    "Granite": ({"logits_scaling": 8.0}, LogitRule(scale=0.125)),
    "Cohere": ({"logit_scale": 0.0625}, LogitRule(scale=0.0625)),
}


def build(name: str, **changes):
    torch.manual_seed(0)
    settings, rule = ARCHITECTURES[name]
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **settings, **changes})
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    if name == "Phi":
        torch.nn.init.uniform_(model.lm_head.bias)
    return model.eval(), rule


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_gradients_and_scores_equal_those_of_the_models_own_logits(tmp_path, name):
    theirs, rule = build(name)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path, precision="fp32").cpu()
    head = ours.get_output_embeddings()
    assert head.rule == rule
    ids = torch.randint(VOCABULARY, (40,), generator=torch.Generator().manual_seed(1))
    labels = torch.cat([ids[1:], torch.tensor([IGNORED])])

    logits = theirs(ids[None]).logits[0]
    expected = functional.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
    expected.sum().backward()
    hidden = hidden_states(ours, ids, (40,))
    head(hidden, labels).backward()

    torch.testing.assert_close(head.logits(hidden.detach()), logits.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(head(hidden.detach(), labels, per_token=True), expected.detach(), atol=1e-4, rtol=1e-4)
    gradients = {key: p.grad for key, p in theirs.named_parameters()}
    assert set(gradients) == {key for key, _ in ours.named_parameters()}
    for key, p in ours.named_parameters():
        assert (p.grad - gradients[key]).norm() <= 1e-4 * gradients[key].norm() + 1e-6, key


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_rule_is_found_in_bf16_too(name):
    model, rule = build(name)
    assert find_rule(model.to(torch.bfloat16)) == rule


def test_a_key_that_the_model_does_not_read_is_not_believed():
    model, _ = build("Llama", final_logit_softcapping=30.0, logits_scaling=4.0)
    assert find_rule(model) == LogitRule()


def test_logits_that_no_rule_explains_are_refused():
    model, _ = build("Llama")
    plain = model.forward
    model.forward = lambda *args, **options: transformers.modeling_outputs.CausalLMOutput(
        logits=plain(*args, **options).logits + torch.arange(VOCABULARY)
    )
    with pytest.raises(ConfigError, match="LlamaForCausalLM computes its logits in an unsupported way") as error:
        find_rule(model)
    assert "another architecture" in error.value.fix


def test_a_loaded_model_has_the_loss_kernel_of_its_device(tmp_path):
    theirs, _ = build("Llama")
    theirs.save_pretrained(tmp_path)
    head = load_model(tmp_path, precision="fp32").get_output_embeddings()
    assert (head.kernel == CHUNKED) != torch.cuda.is_available()
