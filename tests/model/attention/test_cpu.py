"""The CPU kernels against masked attention, forward and backward, and bitwise equality of two identical calls."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.model.attention import gpu
from cpt_ray.model.attention.cpu import SDPA, SDPA_BLOCKS
from cpt_ray.model.attention.isolation import attend, make_segments
from tests.model.attention.masked import attention_inputs, dense, differentiate

LENGTHS = [(1, 2, 511, 3), (128, 129, 7), (300,), (1, 1, 1)]
HEADS = [(4, 4, 16), (9, 3, 64), (8, 1, 40)]


@pytest.mark.parametrize("kernel", [SDPA, SDPA_BLOCKS, gpu.SDPA])  # the last is made of public operators
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
