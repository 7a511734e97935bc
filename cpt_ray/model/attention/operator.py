"""Per-document attention as one torch operator, `cpt_ray::document_attention`, with a kernel per device and type.

An operator is opaque to `torch.compile`, so a whole decoder layer becomes one graph although rows differ in their documents:
the boundaries are a tensor of fixed shape, and no shape, guard or output depends on their values. Inside, the kernel reads how
many documents there are from a copy of that tensor on the host, so nothing waits for the device and no kernel is started for
documents that do not exist. Guarantee: nothing of one document enters another's output or gradient; `self_test` proves it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cpt_ray.errors import TrainingError
from cpt_ray.model.attention import cpu, gpu
from cpt_ray.model.attention.blocks import block_backward
from cpt_ray.model.attention.documents import Documents

Forward = Callable[[Tensor, Tensor, Tensor, Documents, float], tuple[Tensor, Tensor]]
"""(query, key, value, documents, scale) -> output [1, N, heads, head_dim], and log-sum-exp of the scores fp32 [heads, N],
or an empty tensor where the backward pass needs none."""
Backward = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Documents, float], tuple[Tensor, Tensor, Tensor]]
"""(gradient, query, key, value, output, log-sum-exp, documents, scale) -> gradients of query, key and value."""


@dataclass(frozen=True)
class Kernel:
    """One way to compute attention within documents."""

    forward: Forward
    backward: Backward
    keeps_sums: bool
    """Whether the forward pass returns log-sum-exps."""


KERNELS = {
    cpu.SDPA: Kernel(cpu.sdpa, cpu.sdpa_backward, keeps_sums=True),
    cpu.SDPA_BLOCKS: Kernel(cpu.sdpa_without_sums, block_backward, keeps_sums=False),
    gpu.VARLEN: Kernel(gpu.varlen, gpu.varlen_backward, keeps_sums=True),
    gpu.VARLEN_3: Kernel(gpu.varlen, gpu.varlen_backward, keeps_sums=True),
    gpu.SDPA: Kernel(gpu.sdpa, block_backward, keeps_sums=False),
}
"""Kernel by the name that records show."""

_NAME = "cpt_ray::document_attention"


@torch.library.custom_op(_NAME, mutates_args=())
def document_attention(
    query: Tensor, key: Tensor, value: Tensor, boundaries: Tensor, on_host: Tensor, scale: float, kernel: str, window: int
) -> tuple[Tensor, Tensor]:
    """Attend causally within documents.

    Args:
        query: [1, heads, N, head_dim].
        key: [1, kv_heads, N, head_dim]; heads is a multiple of kv_heads.
        value: [1, kv_heads, N, head_dim].
        boundaries: int32 [N + 1] on the tensors' device: where documents begin, from 0, then N to the end.
        on_host: The same on the CPU; the same tensor for a model on the CPU.
        scale: Factor of the scores.
        kernel: A key of `KERNELS`.
        window: The layer attends to this many tokens; 0 is all of them.

    Returns:
        Output [1, N, heads, head_dim] and what the backward pass needs of the softmax.

    Raises:
        TrainingError: If a document is longer than the window.
    """
    documents = _documents(boundaries, on_host)
    if 0 < window < documents.longest:
        raise TrainingError(
            f"a layer uses a sliding window of {window} tokens, which document attention does not support "
            f"(longest document: {documents.longest} tokens)",
            fix="use a model with full causal attention, or a sequence_length within the window",
        )
    output, sums = KERNELS[kernel].forward(query, key, value, documents, scale)
    return output.contiguous(), sums


@document_attention.register_fake
def _(
    query: Tensor, _key: Tensor, _value: Tensor, _at: Tensor, _on_host: Tensor, _scale: float, kernel: str, _window: int
) -> Any:
    _, heads, tokens, size = query.shape
    sums = (heads, tokens) if KERNELS[kernel].keeps_sums else (0,)
    return query.new_empty(1, tokens, heads, size), query.new_empty(sums, dtype=torch.float32)


@torch.library.custom_op(f"{_NAME}_backward", mutates_args=())
def document_attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    sums: Tensor,
    boundaries: Tensor,
    on_host: Tensor,
    scale: float,
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate `document_attention`; arguments as there, gradients shaped like query, key and value."""
    found = KERNELS[kernel].backward(grad, query, key, value, output, sums, _documents(boundaries, on_host), scale)
    # Token by token in memory, whatever the kernel: compiled code relies on the layout that the fake states, and the
    # projections take it without a copy.
    query_grad, key_grad, value_grad = (part.transpose(1, 2).contiguous().transpose(1, 2) for part in found)
    return query_grad, key_grad, value_grad


@document_attention_backward.register_fake
def _(_grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Any:
    by_token = ([x.shape[place] for place in (0, 2, 1, 3)] for x in (query, key, value))
    return tuple(query.new_empty(shape).transpose(1, 2) for shape in by_token)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, boundaries, on_host, ctx.scale, ctx.kernel, _ = inputs
    ctx.save_for_backward(query, key, value, *output, boundaries, on_host)


def _differentiate(ctx: Any, grad: Tensor, _sums: Tensor) -> tuple[Tensor | None, ...]:
    gradients = document_attention_backward(grad, *ctx.saved_tensors, ctx.scale, ctx.kernel)
    return *gradients, None, None, None, None, None


document_attention.register_autograd(_differentiate, setup_context=_keep)


def lay_out(lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The boundaries of a row on its device and on the host, as `document_attention` takes them.

    Args:
        lengths: Document lengths; they add up to the row's tokens N.
        device: Device of the row.

    Returns:
        Two int32 tensors [N + 1]; one and the same for a CPU. A document has at least one token, so this shape fits any row.
    """
    ends = torch.tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32)
    on_gpu = device.type == "cuda"
    # Pinned: a copy from pageable memory would wait for the device.
    on_host = torch.full((int(ends[-1]) + 1,), int(ends[-1]), dtype=torch.int32, pin_memory=on_gpu)
    on_host[0] = 0
    on_host[1 : len(ends) + 1] = ends
    return on_host.to(device, non_blocking=True), on_host


def _documents(boundaries: Tensor, on_host: Tensor) -> Documents:
    count = int(torch.searchsorted(on_host, int(on_host[-1])))
    return Documents.between(on_host[: count + 1].tolist(), boundaries[: count + 1])
