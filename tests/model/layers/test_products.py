"""Products of half-precision matrices without units for them: rounded once, and everything else as torch has it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from cpt_ray.model.layers import products

HALVES = (torch.bfloat16, torch.float16)


def factors(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def assert_rounded_once(found: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    # Half a unit of the result, and what fp32 loses where large terms cancel.
    assert ((found.double() - exact).abs() <= 0.5 * torch.finfo(dtype).eps * exact.abs() * 1.01 + 1e-4).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("block_bytes", [1, 1 << 12, products._BLOCK_BYTES])
def test_a_product_is_rounded_once_in_any_blocks(dtype, block_bytes, monkeypatch):
    monkeypatch.setattr(products, "_BLOCK_BYTES", block_bytes)
    left, right = factors(dtype, 37, 129), factors(dtype, 64, 129).T
    assert_rounded_once(products._mm(left, right), left.double() @ right.double(), dtype)


@pytest.mark.parametrize("dtype", HALVES)
def test_one_with_a_bias_and_a_batch_of_them_too(dtype):
    bias, left, right = factors(dtype, 19), factors(dtype, 37, 129), factors(dtype, 129, 19)
    exact = 0.5 * bias.double() + 2 * (left.double() @ right.double())
    assert_rounded_once(products._addmm(bias, left, right, beta=0.5, alpha=2), exact, dtype)
    lefts, rights = factors(dtype, 3, 7, 65), factors(dtype, 3, 65, 5)
    assert_rounded_once(products._bmm(lefts, rights), lefts.double() @ rights.double(), dtype)


def test_other_types_keep_their_bits():
    left, right, bias = factors(torch.float32, 37, 129), factors(torch.float32, 129, 19), factors(torch.float32, 19)
    assert torch.equal(products._mm(left, right), left @ right)
    assert torch.equal(products._addmm(bias, left, right), torch.addmm(bias, left, right))
    assert torch.equal(products._bmm(left[None], right[None]), torch.bmm(left[None], right[None]))
    assert torch.equal(products._mm(*(x.long() for x in (left, right))), left.long() @ right.long())


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
@pytest.mark.parametrize("has_units", [True, False])
def test_torchs_products_are_replaced_only_where_they_are_slow(dtype, has_units, monkeypatch):
    replaced = []
    monkeypatch.setattr(products, "has_units", lambda asked: has_units)
    monkeypatch.setattr(products, "_replace", lambda: replaced.append(dtype))
    products.multiply_in_fp32_without_units(dtype)
    assert replaced == ([dtype] if dtype in HALVES and not has_units else [])


REPLACED = """
import torch
from torch import nn
from cpt_ray.model.layers import products

hidden = torch.randn(2, 33, 64)
layers = nn.Sequential(nn.Linear(64, 48), nn.Linear(48, 16, bias=False))

def gradients(dtype):
    copy = nn.Sequential(nn.Linear(64, 48), nn.Linear(48, 16, bias=False))
    copy.load_state_dict(layers.state_dict())
    out = copy.to(dtype)(hidden.to(dtype))
    (out @ out.transpose(1, 2)).float().square().mean().backward()
    return [parameter.grad.float() for parameter in copy.parameters()]

before = gradients(torch.float32)
products.has_units = lambda dtype: False
products.multiply_in_fp32_without_units(torch.bfloat16)
products._BLOCK_BYTES = 1 << 10  # several blocks
assert all(map(torch.equal, gradients(torch.float32), before)), "fp32 has other bits"
print(max(float((a - b).norm() / b.norm()) for a, b in zip(gradients(torch.bfloat16), before)))
"""


def test_layers_train_in_bf16_with_them_and_in_fp32_as_before():
    ran = subprocess.run([sys.executable, "-c", REPLACED], capture_output=True, text=True, check=True)
    assert 0 < float(ran.stdout) < 0.02
    assert ran.stderr == ""
