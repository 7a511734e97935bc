"""Products of bf16 or fp16 matrices on a CPU without fast units for them: computed in fp32, and rounded once.

There torch multiplies them with a loop that uses neither vectors nor caches: on an AMD EPYC with AVX2 a training step in bf16
took 16 times as long as in fp32 (docs/log.md). Some Intel CPUs have units for bf16 at half the rate of those for fp32. Units
multiply exactly, accumulate in fp32 and round the sum once; so do products in fp32 of operands that are bf16. Memory: both
factors and the product in fp32; of `mm`, which is the output head's product too, the left factor and the product in blocks of
rows.

torch's kernels of `mm`, `addmm` and `bmm` are replaced, for all layers and both passes; their `out` variants, which these call,
stay torch's. A compiled layer calls those too, and gains nothing. fp32 products give the same bits as before.
"""

from __future__ import annotations

import functools
import logging
import warnings

import torch
from torch import Tensor

from cpt_ray.edges.device import cpu_products

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 64 << 20
"""Of the left factor and the product in fp32, at once."""
_HALVES = (torch.bfloat16, torch.float16)


def multiply_in_fp32_without_units(dtype: torch.dtype) -> None:
    """Replace torch's products on this CPU, for the rest of the process, if it has no units for `dtype`."""
    if dtype in _HALVES and not has_units(dtype):
        _replace()


def has_units(dtype: torch.dtype) -> bool:
    """Whether torch has a product of a 16-bit `dtype` on this CPU, as it asks itself before each one, and fp32 is no faster."""
    if not torch.backends.mkldnn.is_available() or (dtype == torch.bfloat16 and cpu_products() != "bf16"):
        return False
    ask = torch.ops.mkldnn._is_mkldnn_bf16_supported if dtype == torch.bfloat16 else torch.ops.mkldnn._is_mkldnn_fp16_supported
    return bool(ask())


@functools.cache
def _replace() -> torch.library.Library:
    """Register the products; they last as long as the library that is returned, and so cached."""
    logger.info("this CPU has no fast units for bf16 or fp16: products are computed in fp32 and rounded once")
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*Overriding a previously registered kernel")
        for name, product in (("mm", _mm), ("addmm", _addmm), ("bmm", _bmm)):
            library.impl(name, product, "CPU")
    return library


def _are_halves(left: Tensor, right: Tensor) -> bool:
    return left.dtype in _HALVES and right.dtype == left.dtype  # torch refuses factors of two types


def _mm(left: Tensor, right: Tensor) -> Tensor:
    product = left.new_empty(left.shape[0], right.shape[1])
    if not _are_halves(left, right):
        return torch.mm(left, right, out=product)
    wide = right.float()
    rows = max(1, _BLOCK_BYTES // (4 * max(1, left.shape[1] + right.shape[1])))
    for start in range(0, left.shape[0], rows):
        block = left[start : start + rows].float()
        product[start : start + rows] = torch.mm(block, wide, out=block.new_empty(block.shape[0], wide.shape[1]))
    return product


def _addmm(added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = left.new_empty(left.shape[0], right.shape[1])
    if not _are_halves(left, right):
        return torch.addmm(added, left, right, beta=beta, alpha=alpha, out=product)
    wide = torch.empty(product.shape, dtype=torch.float32)
    return product.copy_(torch.addmm(added.float(), left.float(), right.float(), beta=beta, alpha=alpha, out=wide))


def _bmm(left: Tensor, right: Tensor) -> Tensor:
    product = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    if not _are_halves(left, right):
        return torch.bmm(left, right, out=product)
    wide = torch.empty(product.shape, dtype=torch.float32)
    return product.copy_(torch.bmm(left.float(), right.float(), out=wide))
