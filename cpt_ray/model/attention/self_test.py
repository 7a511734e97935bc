"""Start-up proof that packed documents do not see each other on this model, kernel and sharding.

Forward: a document is scored alone, packed after another one, and packed with the mask off. The first two must agree, and the
third must differ: a test whose control passes proves nothing. Backward: kernels compute gradients with different code than
outputs, so the packed row is differentiated too, by the very graphs that training runs: no gradient of the second document's
loss may reach the first, and with the mask off some must. The attention alone is differentiated once more, at lengths that make
kernels split documents.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cpt_ray.errors import TrainingError
from cpt_ray.model.attention.isolation import attend, make_segments
from cpt_ray.model.bases.window import LEAST_POSITIONS
from cpt_ray.model.precision import PRECISIONS
from cpt_ray.records import SelfTest

ScoreTokens = Callable[[Tensor, tuple[int, ...], bool], Tensor]
"""(input_ids [N], segment lengths, mask on) -> nats of token i+1 given token i [N]; collective where the model is sharded."""

InputGradient = Callable[[Tensor, tuple[int, ...], bool], Tensor]
"""(input_ids [N], segment lengths, mask on) -> largest gradient at each token's embedding of the last segment's loss [N];
collective where the model is sharded."""

_FIRST, _SECOND = 40, LEAST_POSITIONS
_GRADIENT_LENGTHS = (40, 150)  # kernels that work in blocks of rows split the second
_CONTROL_SHARE = 0.1
"""Allowed share of the change with the mask off, where rounding rules out a fixed bound."""
_LEAST_CONTROL_NATS = 1e-4
"""A smaller change with the mask off proves nothing."""


def run_self_test(
    score: ScoreTokens,
    input_gradient: InputGradient,
    *,
    vocabulary_size: int,
    heads: tuple[int, int, int],
    kernel: str,
    precision: str,
    device: torch.device,
) -> SelfTest:
    """Measure isolation; every rank of a sharded model must call it.

    Args:
        score: Scores a flat row.
        input_gradient: Differentiates a flat row.
        vocabulary_size: Ids are drawn below it, from a fixed seed.
        heads: Query heads, key heads and head size.
        kernel: The kernel in use, as named by `isolation.kernel_name`.
        precision: `bf16`, `fp16` or `fp32`; decides the tolerance, see `model.precision`.
        device: Device of the ids.
    """
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(vocabulary_size, (_FIRST,), generator=generator).to(device)
    second = torch.randint(vocabulary_size, (_SECOND,), generator=generator).to(device)
    alone = score(second, (_SECOND,), True)
    packed = score(torch.cat([first, second]), (_FIRST, _SECOND), True)[_FIRST:]
    leaking = score(torch.cat([first, second]), (_FIRST, _SECOND), False)[_FIRST:]
    last = _SECOND - 1  # the last position has no next token
    masked = (packed - alone)[:last].abs().max().item()
    unmasked = (leaking - alone)[:last].abs().max().item()
    fixed = PRECISIONS[precision].isolation_nats
    allowed = _CONTROL_SHARE * unmasked if fixed is None else fixed
    row = torch.cat([first, second])
    crossing = [float(input_gradient(row, (_FIRST, _SECOND), mask)[:_FIRST].max()) for mask in (True, False)]
    alone_crossing = [gradient_at_first(lengths, heads, kernel, precision, device) for lengths in (_GRADIENT_LENGTHS, None)]
    leak, control = max(crossing[0], alone_crossing[0]), min(crossing[1], alone_crossing[1])
    return SelfTest(
        kernel=kernel,
        dtype=precision,
        masked_difference=masked,
        unmasked_difference=unmasked,
        allowed_difference=allowed,
        gradient_leak=leak,
        gradient_control=control,
        passed=masked <= allowed and unmasked > max(allowed, _LEAST_CONTROL_NATS) and leak == 0 < control,
    )


def gradient_at_first(
    lengths: tuple[int, ...] | None, heads: tuple[int, int, int], kernel: str, precision: str, device: torch.device
) -> float:
    """The largest gradient that the outputs after the first `40` tokens send to those tokens.

    Args:
        lengths: Document lengths of a row of 190 tokens; None is one document, which is the mask off.
        heads: Query heads, key heads and head size.
        kernel: The kernel in use.
        precision: `bf16`, `fp16` or `fp32`.
        device: Where to compute.
    """
    tokens = sum(_GRADIENT_LENGTHS)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, count, tokens, heads[2], generator=generator).to(device, PRECISIONS[precision].dtype).requires_grad_()
        for count in (heads[0], heads[1], heads[1])
    )
    segments = make_segments(lengths or (tokens,), device=device, kernel=kernel)
    with torch.enable_grad():
        output = attend(query, key, value, segments, heads[2] ** -0.5)
    gradients = torch.autograd.grad(output[:, _FIRST:].square().sum(), (query, key, value))
    return max(float(gradient[:, :, :_FIRST].abs().max()) for gradient in gradients)


def require_isolation(result: SelfTest, *, compiled: bool = False) -> None:
    """Refuse a model whose packed documents see each other, or whose control shows nothing.

    Args:
        result: The measured differences.
        compiled: Whether they were measured on compiled layers.

    Raises:
        TrainingError: With the measured differences.
    """
    if result.passed:
        return
    raise TrainingError(
        f"isolation self-test failed on {describe(result)}",
        fix="set train.compile=false: compiled layers lose the mask"
        if compiled
        else "this architecture does not pass segments to its attention; use a supported one, or train.isolation=none",
    )


def describe(result: SelfTest) -> str:
    """What was measured, as the end of a sentence."""
    return (
        f"{result.kernel}, {result.dtype}: packed and alone differ by "
        f"{result.masked_difference:.3g} nats (allowed {result.allowed_difference:.3g}), "
        f"with the mask off by {result.unmasked_difference:.3g}; crossing gradients: {result.gradient_leak:.3g} (allowed 0), "
        f"with the mask off {result.gradient_control:.3g}"
    )
