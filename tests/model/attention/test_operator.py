"""The attention operator: what it is told of a row's documents, and that torch may treat it as one of its own."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.model.attention import cpu, gpu
from cpt_ray.model.attention.isolation import attend, make_segments
from cpt_ray.model.attention.operator import document_attention, lay_out
from tests.model.attention.masked import attention_inputs, differentiate

CPU = torch.device("cpu")


def test_every_row_of_a_size_is_laid_out_in_the_same_shape():
    boundaries, on_host = lay_out((3, 1, 4), CPU)
    assert boundaries is on_host
    assert boundaries.tolist() == [0, 3, 4, 8, 8, 8, 8, 8, 8]
    assert lay_out((1,) * 8, CPU)[0].tolist() == list(range(9))
    assert lay_out((8,), CPU)[0].tolist() == [0] + [8] * 8
    assert boundaries.dtype == torch.int32


@pytest.mark.parametrize("kernel", [cpu.SDPA, cpu.SDPA_BLOCKS, gpu.SDPA])
@pytest.mark.parametrize("layout", ["by head", "by token"])
def test_it_is_an_operator_by_torchs_own_rules(kernel, layout):
    """Schema, fake shapes and strides, autograd registration, and tracing with fixed shapes."""
    inputs = [tensor.requires_grad_() for tensor in attention_inputs(30, 4, 2, 16, torch.float32)[:3]]
    if layout == "by token":
        inputs = [t.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for t in inputs]
    arguments = (*inputs, *lay_out((10, 1, 19), CPU), 0.25, kernel, 0)
    torch.library.opcheck(
        document_attention, arguments, test_utils=("test_schema", "test_autograd_registration", "test_faketensor")
    )
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = document_attention(*(mode.from_tensor(t) for t in arguments[:5]), *arguments[5:])
    for one, other in zip(fake, document_attention(*arguments), strict=True):
        assert (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)


@pytest.mark.parametrize("kernel", [cpu.SDPA, cpu.SDPA_BLOCKS, gpu.SDPA])
def test_gradients_are_laid_out_token_by_token_as_the_fake_states(kernel):
    inputs = attention_inputs(30, 4, 2, 16, torch.float32)
    segments = make_segments((10, 1, 19), device=CPU, kernel=kernel)
    _, *gradients = differentiate(lambda q, k, v: attend(q, k, v, segments, 0.25), *inputs)
    assert all(gradient.transpose(1, 2).is_contiguous() for gradient in gradients)


def test_one_trace_serves_rows_of_any_documents():
    query, key, value, weight = attention_inputs(30, 4, 2, 16, torch.float32)
    traced = torch.compile(attend, backend="aot_eager", dynamic=False, fullgraph=True)
    rows = [(30,), (10, 20), (1,) * 30, (7, 1, 1, 21)]
    segments = [make_segments(lengths, device=CPU, kernel=cpu.SDPA) for lengths in rows]
    differentiate(lambda q, k, v: traced(q, k, v, segments[0], 0.25), query, key, value, weight)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for one in segments:
            found = differentiate(lambda q, k, v, s=one: traced(q, k, v, s, 0.25), query, key, value, weight)
            expected = differentiate(lambda q, k, v, s=one: attend(q, k, v, s, 0.25), query, key, value, weight)
            for left, right in zip(found, expected, strict=True):
                torch.testing.assert_close(left, right)
