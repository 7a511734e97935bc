"""Packed documents do not see each other, and the check for it can fail."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cpt_ray.errors import TrainingError
from cpt_ray.model.isolation import hidden_states, kernel_name, use_document_attention
from cpt_ray.model.loss import token_nats
from cpt_ray.model.self_test import require_isolation, run_self_test
from tests.evaluate.tiny import build_model


@pytest.fixture(scope="module")
def model():
    model = build_model(200)
    use_document_attention(model)
    return model


def scorer(model):
    def score(ids, lengths, mask):
        labels = torch.cat([ids[1:], ids[:1]])
        with torch.no_grad():
            return token_nats(hidden_states(model, ids, lengths, mask=mask), model.get_output_embeddings().weight, labels)

    return score


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


def test_gradients_do_not_cross_segments(model):
    embeddings = model.get_input_embeddings()
    ids = torch.cat([torch.arange(10), torch.arange(20, 30)])
    hidden_states(model, ids, (10, 10))[10:].sum().backward()
    assert embeddings.weight.grad[20:30].abs().sum() > 0
    assert embeddings.weight.grad[:10].abs().sum() == 0
    model.zero_grad()


def test_the_self_test_passes_with_the_mask_and_measures_the_leak_without(model):
    result = run_self_test(scorer(model), vocabulary_size=200, kernel="k", dtype="fp32", device=torch.device("cpu"))
    assert result.passed
    assert result.masked_difference <= 1e-4 < result.unmasked_difference


def test_the_self_test_fails_when_the_mask_is_off(model):
    leaking = scorer(model)
    result = run_self_test(
        lambda ids, lengths, mask: leaking(ids, lengths, False),
        vocabulary_size=200,
        kernel="k",
        dtype="fp32",
        device=torch.device("cpu"),
    )
    assert not result.passed
    with pytest.raises(TrainingError, match="isolation self-test failed on k, fp32: packed against alone differ by") as error:
        require_isolation(result)
    assert "train.isolation=none" in error.value.fix


def test_the_self_test_fails_when_its_control_shows_nothing(model):
    blind = scorer(model)
    result = run_self_test(
        lambda ids, lengths, mask: blind(ids, lengths, True),
        vocabulary_size=200,
        kernel="k",
        dtype="fp32",
        device=torch.device("cpu"),
    )
    assert result.masked_difference <= 1e-4
    assert not result.passed


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


def test_cpu_gets_sdpa_per_document():
    assert kernel_name(torch.device("cpu"), torch.bfloat16) == "sdpa per document"


@pytest.mark.gpu
def test_varlen_attention_on_a_gpu_equals_sdpa_per_document():
    model = build_model(200).to("cuda", torch.bfloat16)
    use_document_attention(model)
    assert kernel_name(model.device, model.dtype) == "varlen_attn"
    result = run_self_test(scorer(model), vocabulary_size=200, kernel="varlen_attn", dtype="bf16", device=model.device)
    assert result.passed
