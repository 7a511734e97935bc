"""The GPU kernels against masked attention; without a GPU, the choice of kernel and the mask of FlexAttention."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.model.attention import gpu
from cpt_ray.model.attention.isolation import (
    attend,
    head_shape,
    hidden_states,
    kernel_name,
    make_segments,
    use_document_attention,
)
from tests.evaluate.tiny import build_model
from tests.model.attention.masked import attention_inputs, dense, differentiate


@pytest.mark.parametrize("lengths", [(1, 2, 61), (40, 88)])
def test_the_mask_of_flex_attention_equals_masked_attention(lengths):
    """On CPU it runs uncompiled, which tests the mask and the call, not the GPU kernel."""
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
