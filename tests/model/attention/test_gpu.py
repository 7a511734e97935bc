"""The GPU kernels against masked attention; without a GPU, the choice of kernel and what torch's flash operators are given."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.model.attention import gpu
from cpt_ray.model.attention.documents import Documents
from cpt_ray.model.attention.isolation import (
    attend,
    head_shape,
    hidden_states,
    kernel_name,
    make_segments,
    use_document_attention,
)
from cpt_ray.model.layers.compiled import compile_layers
from tests.evaluate.tiny import build_model
from tests.model.attention.masked import attention_inputs, dense, differentiate
from tests.model.layers.compiled_models import check_compiled_against_eager

A100, A10, H100, T4 = (8, 0), (8, 6), (9, 0), (7, 5)


@pytest.mark.parametrize(
    ("dtype", "head_size", "capability", "kernel"),
    [
        (torch.bfloat16, 64, A100, gpu.VARLEN),
        (torch.float16, 256, A100, gpu.VARLEN),
        (torch.bfloat16, 256, A10, gpu.SDPA),
        (torch.bfloat16, 64, A10, gpu.VARLEN),
        (torch.float32, 64, H100, gpu.SDPA),
        (torch.bfloat16, 512, H100, gpu.SDPA),
        (torch.bfloat16, 36, H100, gpu.SDPA),
        (torch.float16, 64, T4, gpu.SDPA),
    ],
)
def test_the_gpu_kernel_is_chosen_by_type_head_size_and_card(monkeypatch, dtype, head_size, capability, kernel):
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    assert gpu.gpu_kernel(dtype, head_size, capability) == kernel


def test_a_torch_without_flash_attends_per_document(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
    assert gpu.gpu_kernel(torch.bfloat16, 64, A100) == gpu.SDPA


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (9, 3)])
def test_torchs_flash_operators_take_what_they_are_given_and_return_what_the_operator_states(heads, kv_heads):
    """On the meta device, which checks signatures and shapes: this torch's, without a GPU."""
    tokens, size = 30, 64
    query, key, value = (
        torch.empty(1, count, tokens, size, dtype=torch.bfloat16, device="meta") for count in (heads, kv_heads, kv_heads)
    )
    documents = Documents((10, 20), torch.empty(3, dtype=torch.int32, device="meta"))
    output, sums = gpu.varlen(query, key, value, documents, 0.125)
    assert output.shape == (1, tokens, heads, size)
    assert (sums.shape, sums.dtype) == ((heads, tokens), torch.float32)
    gradients = gpu.varlen_backward(torch.empty_like(output), query, key, value, output, sums, documents, 0.125)
    assert [gradient.shape for gradient in gradients] == [query.shape, key.shape, value.shape]


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", [gpu.VARLEN, gpu.SDPA])
@pytest.mark.parametrize("heads", [(4, 4, 64), (9, 3, 64)])
@pytest.mark.parametrize("whole", [False, True], ids=["eager", "compiled"])
def test_gpu_kernels_equal_masked_attention_forward_and_backward(kernel, heads, whole):
    lengths = (1, 2, 511, 70)
    dtype = torch.float32 if kernel == gpu.SDPA else torch.bfloat16
    inputs = attention_inputs(sum(lengths), *heads, dtype, "cuda")
    segments = make_segments(lengths, device=torch.device("cuda"), kernel=kernel)
    ours = torch.compile(attend, dynamic=False, fullgraph=True) if whole else attend
    found = differentiate(lambda q, k, v: ours(q, k, v, segments, 0.125), *inputs)
    exact = differentiate(lambda q, k, v: dense(q, k, v, lengths, 0.125), *(tensor.double() for tensor in inputs))
    for one, other in zip(found, exact, strict=True):
        assert (one.double() - other).norm() < (1e-2 if dtype == torch.bfloat16 else 1e-3) * other.norm()


@pytest.mark.gpu
def test_attention_waits_for_nothing_on_a_gpu():
    inputs = [tensor.requires_grad_() for tensor in attention_inputs(584, 9, 3, 64, torch.bfloat16, "cuda")[:3]]
    attend(*inputs, make_segments((584,), device=torch.device("cuda"), kernel=gpu.VARLEN), 0.125).sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        segments = make_segments((1, 2, 511, 70), device=torch.device("cuda"), kernel=gpu.VARLEN)
        attend(*inputs, segments, 0.125).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_model_on_a_gpu_uses_varlen_attention():
    model = build_model(200).to("cuda", torch.bfloat16)
    use_document_attention(model)
    assert kernel_name(model.device, model.dtype, head_shape(model.config)[2]) in (gpu.VARLEN, gpu.VARLEN_3)
    ids = torch.randint(200, (30,), device="cuda")
    with torch.no_grad():
        packed = hidden_states(model, torch.cat([ids, ids]), (30, 30)).float()
    torch.testing.assert_close(packed[:30], packed[30:], atol=3e-2, rtol=3e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_compiled_layers_on_a_gpu_equal_eager_ones_and_no_row_compiles_again(dtype):
    model = build_model(200).to("cuda", dtype)
    use_document_attention(model)
    check_compiled_against_eager(model, tolerance=3e-2 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.gpu
def test_a_row_of_many_short_documents_needs_no_other_graph_on_a_gpu():
    model = build_model(200).to("cuda", torch.bfloat16)
    use_document_attention(model)
    assert compile_layers(model, tokens=192, limit_s=600).active
    ids = torch.randint(200, (192,), device="cuda")
    with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        assert hidden_states(model, ids, (1,) * 192).isfinite().all()
