"""Packed documents do not see each other, and the check for it can fail."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

from cpt_ray.errors import TrainingError
from cpt_ray.model.attention.cpu import SDPA
from cpt_ray.model.attention.isolation import (
    hidden_states,
    kernel_name,
    make_segments,
    use_document_attention,
)
from tests.evaluate.tiny import build_model
from tests.model.attention.masked import attention_inputs


@pytest.fixture(scope="module")
def model():
    model = build_model(200)
    use_document_attention(model)
    return model


def test_each_segment_equals_the_document_alone_in_fp32(model):
    ids = torch.randint(200, (60,))
    with torch.no_grad():
        packed = hidden_states(model, ids, (20, 1, 30, 9))
        parts = [hidden_states(model, part, (len(part),)) for part in ids.split([20, 1, 30, 9])]
    torch.testing.assert_close(packed, torch.cat(parts), atol=1e-5, rtol=1e-5)


def test_document_attention_equals_transformers_own_on_one_document():
    plain, ours = build_model(200), build_model(200)
    use_document_attention(ours)
    ids = torch.randint(200, (40,))
    with torch.no_grad():
        expected = plain.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(hidden_states(ours, ids, (40,)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        transformers.OPTConfig(hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2),
        transformers.BioGptConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2),
    ],
    ids=["opt", "biogpt"],
)
def test_models_whose_table_of_positions_begins_at_2_get_the_positions_that_they_learned(settings):
    settings.vocab_size, settings.max_position_embeddings, settings.init_std = 64, 64, 0.2
    torch.manual_seed(0)
    model, ids = transformers.AutoModelForCausalLM.from_config(settings).eval(), torch.randint(3, 64, (30,))
    with torch.no_grad():
        expected = model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
        moved = model.base_model(input_ids=ids[None], position_ids=torch.arange(2, 32)[None], use_cache=False)
        use_document_attention(model)
        torch.testing.assert_close(hidden_states(model, ids, (30,)), expected, atol=1e-5, rtol=1e-5)
    assert (moved.last_hidden_state[0] - expected).abs().max() > 1e-3


def test_gradients_do_not_cross_segments(model):
    embeddings = model.get_input_embeddings()
    ids = torch.cat([torch.arange(10), torch.arange(20, 30)])
    hidden_states(model, ids, (10, 10))[10:].sum().backward()
    assert embeddings.weight.grad[20:30].abs().sum() > 0
    assert embeddings.weight.grad[:10].abs().sum() == 0
    model.zero_grad()


def test_absolute_positions_restart_too():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100, n_positions=64, initializer_range=0.2)
    ).eval()
    use_document_attention(model)
    ids = torch.randint(100, (30,))
    with torch.no_grad():
        packed = hidden_states(model, torch.cat([ids, ids]), (30, 30))
    torch.testing.assert_close(packed[:30], packed[30:], atol=1e-5, rtol=1e-5)


def test_plain_calls_under_document_attention_are_refused(model):
    with pytest.raises(TrainingError, match="was called without segments"):
        model(input_ids=torch.ones(1, 4, dtype=torch.long))


def test_a_model_in_bf16_gets_nearly_the_gradients_of_fp32():
    ids, lengths = torch.randint(200, (90,), generator=torch.Generator().manual_seed(0)), (50, 39, 1)

    def gradients(dtype):
        model = build_model(200).to(dtype)
        use_document_attention(model)
        hidden_states(model, ids, lengths).float().square().sum().backward()
        return torch.cat([p.grad.flatten().float() for p in model.base_model.parameters()])

    exact = gradients(torch.float32)
    assert (gradients(torch.bfloat16) - exact).norm() < 0.05 * exact.norm()


def test_positions_restart_and_a_row_of_one_document_would_score_otherwise(model):
    ids = torch.randint(200, (40,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        given = model.base_model(
            input_ids=ids[None],
            position_ids=torch.tensor([[*range(25), *range(15)]]),
            use_cache=False,
            segments=make_segments((40,), device=ids.device, kernel=SDPA),
        ).last_hidden_state[0]
        torch.testing.assert_close(hidden_states(model, ids, (25, 15), mask=False), given, atol=1e-6, rtol=1e-6)
        running = hidden_states(model, ids, (40,))
    assert (running - given)[25:].abs().max() > 1e-3


def test_the_kernel_is_named_after_what_runs():
    cpu = torch.device("cpu")
    assert kernel_name(cpu, torch.bfloat16, 64) == "sdpa per document, backward in blocks"
    assert kernel_name(cpu, torch.float32, 64) == "sdpa per document"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sliding_window": 8}, "a sliding window of 8 tokens, which .*longest document: 12"),
        ({"softcap": 30.0}, "uses softcap"),
    ],
)
def test_attention_that_is_not_plain_is_refused(model, settings, message):
    implementation = transformers.AttentionInterface()["document"]
    inputs = attention_inputs(12, 2, 2, 16, torch.float32)[:3]
    segments = make_segments((12,), device=torch.device("cpu"), kernel=SDPA)
    with pytest.raises(TrainingError, match=message) as error:
        implementation(model, *inputs, None, segments=segments, **settings)
    assert "full causal attention" in error.value.fix


def test_a_window_that_no_document_reaches_changes_nothing(model):
    implementation = transformers.AttentionInterface()["document"]
    inputs = attention_inputs(12, 2, 2, 16, torch.float32)[:3]
    segments = make_segments((8, 4), device=torch.device("cpu"), kernel=SDPA)
    plain, _ = implementation(model, *inputs, None, segments=segments)
    windowed, _ = implementation(model, *inputs, None, segments=segments, sliding_window=8)
    assert torch.equal(plain, windowed)
