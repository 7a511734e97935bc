"""Packed documents do not see each other, and the check for it can fail."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

from cpt_ray.errors import TrainingError
from cpt_ray.model.attention import gpu
from cpt_ray.model.attention.isolation import (
    SDPA,
    SDPA_BLOCKS,
    attend,
    head_shape,
    hidden_states,
    kernel_name,
    make_segments,
    use_document_attention,
)
from tests.evaluate.tiny import build_model


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


def attention_inputs(tokens: int, heads: int, key_heads: int, size: int, dtype: torch.dtype, device: str = "cpu"):
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, count, tokens, size) for count in (heads, key_heads, key_heads)] + [(1, tokens, heads, size)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def differentiate(attention, query, key, value, weight):
    inputs = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
    output = attention(*inputs)
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), inputs)]


def dense(query, key, value, lengths, scale):
    """The definition: all scores, a mask, a softmax."""
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    seen = (document[:, None] == document) & torch.ones(len(document), len(document), dtype=torch.bool).tril()
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (query @ key.transpose(2, 3) * scale).masked_fill(~seen.to(query.device), float("-inf"))
    return (scores.softmax(-1) @ value).transpose(1, 2)


LENGTHS = [(1, 2, 511, 3), (128, 129, 7), (300,), (1, 1, 1)]
HEADS = [(4, 4, 16), (9, 3, 64), (8, 1, 40)]


@pytest.mark.parametrize("kernel", [SDPA, SDPA_BLOCKS])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("heads", HEADS)
def test_cpu_kernels_equal_masked_attention_forward_and_backward(kernel, lengths, heads):
    query, key, value, weight = attention_inputs(sum(lengths), *heads, torch.float32)
    segments = make_segments(lengths, device=torch.device("cpu"), kernel=kernel)
    found = differentiate(lambda q, k, v: attend(q, k, v, segments, 0.3), query, key, value, weight)
    expected = differentiate(lambda q, k, v: dense(q, k, v, lengths, 0.3), *(t.double() for t in (query, key, value, weight)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("lengths", [(1, 2, 511, 3), (300, 40)])
def test_bf16_gradients_are_as_near_to_fp32_as_torchs_own(lengths):
    inputs = attention_inputs(sum(lengths), 9, 3, 64, torch.bfloat16)
    exact = differentiate(lambda q, k, v: dense(q, k, v, lengths, 0.125), *(tensor.float() for tensor in inputs))
    error = {}
    for kernel in (SDPA, SDPA_BLOCKS):
        segments = make_segments(lengths, device=torch.device("cpu"), kernel=kernel)
        found = differentiate(lambda q, k, v, segments=segments: attend(q, k, v, segments, 0.125), *inputs)
        error[kernel] = [float((one.float() - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]
    assert max(error[SDPA_BLOCKS]) < 6e-3
    assert max(error[SDPA_BLOCKS]) < 1.5 * max(error[SDPA])


def test_a_model_in_bf16_gets_nearly_the_gradients_of_fp32():
    ids, lengths = torch.randint(200, (90,), generator=torch.Generator().manual_seed(0)), (50, 39, 1)

    def gradients(dtype):
        model = build_model(200).to(dtype)
        use_document_attention(model)
        hidden_states(model, ids, lengths).float().square().sum().backward()
        return torch.cat([p.grad.flatten().float() for p in model.base_model.parameters()])

    exact = gradients(torch.float32)
    assert (gradients(torch.bfloat16) - exact).norm() < 0.05 * exact.norm()


def test_equal_inputs_give_bitwise_equal_gradients():
    inputs = attention_inputs(300, 9, 3, 64, torch.bfloat16)
    segments = make_segments((200, 100), device=torch.device("cpu"), kernel=SDPA_BLOCKS)
    first, second = (differentiate(lambda q, k, v: attend(q, k, v, segments, 0.125), *inputs) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_no_gradient_crosses_documents_and_one_does_with_the_mask_off():
    query, key, value, weight = attention_inputs(200, 4, 2, 16, torch.bfloat16)
    weight[:, :60] = 0
    crossing = {}
    for lengths in ((60, 140), (200,)):
        segments = make_segments(lengths, device=torch.device("cpu"), kernel=SDPA_BLOCKS)
        _, *gradients = differentiate(lambda q, k, v, s=segments: attend(q, k, v, s, 0.25), query, key, value, weight)
        crossing[lengths] = [float(gradient[:, :, :60].abs().max()) for gradient in gradients]
    assert crossing[60, 140] == [0, 0, 0]
    assert crossing[200,][1] > 0
    assert crossing[200,][2] > 0


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
    [({"sliding_window": 8}, "a sliding window of 8 tokens"), ({"softcap": 30.0}, "attends with softcap")],
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


@pytest.mark.parametrize("lengths", [(1, 2, 61), (40, 88)])
def test_the_mask_of_flex_attention_equals_masked_attention(lengths):
    """On CPU it runs uncompiled, which proves the mask and the call, not the GPU's kernel."""
    query, key, value, _ = attention_inputs(sum(lengths), 4, 2, 16, torch.float32)
    segments = make_segments(lengths, device=torch.device("cpu"), kernel=gpu.FLEX)
    found = attend(query, key, value, segments, 0.25)
    torch.testing.assert_close(found, dense(query, key, value, lengths, 0.25), atol=1e-5, rtol=1e-5)


def test_the_gpu_kernel_is_chosen_by_type_and_head_size(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    assert gpu.gpu_kernel(torch.bfloat16, 64) == "varlen_attn"
    assert gpu.gpu_kernel(torch.float32, 64) == "flex_attention"
    assert gpu.gpu_kernel(torch.bfloat16, 512) == "flex_attention"


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [gpu.VARLEN, gpu.FLASH, gpu.FLEX])
@pytest.mark.parametrize("heads", [(4, 4, 64), (9, 3, 64)])
def test_gpu_kernels_equal_masked_attention_forward_and_backward(kernel, heads):
    if kernel == gpu.FLASH:
        pytest.importorskip("flash_attn")
    lengths = (1, 2, 511, 70)
    dtype = torch.float32 if kernel == gpu.FLEX else torch.bfloat16
    inputs = attention_inputs(sum(lengths), *heads, dtype, "cuda")
    segments = make_segments(lengths, device=torch.device("cuda"), kernel=kernel)
    found = differentiate(lambda q, k, v: attend(q, k, v, segments, 0.125), *inputs)
    exact = differentiate(lambda q, k, v: dense(q, k, v, lengths, 0.125), *(tensor.double() for tensor in inputs))
    for one, other in zip(found, exact, strict=True):
        assert (one.double() - other).norm() < (1e-2 if dtype == torch.bfloat16 else 1e-3) * other.norm()


@pytest.mark.gpu
def test_a_model_on_a_gpu_uses_varlen_attention():
    model = build_model(200).to("cuda", torch.bfloat16)
    use_document_attention(model)
    assert kernel_name(model.device, model.dtype, head_shape(model.config)[2]) == "varlen_attn"
    ids = torch.randint(200, (30,), device="cuda")
    with torch.no_grad():
        packed = hidden_states(model, torch.cat([ids, ids]), (30, 30)).float()
    torch.testing.assert_close(packed[:30], packed[30:], atol=3e-2, rtol=3e-2)
