"""The proof, at start-up, that packed documents do not see each other on this model, kernel and sharding.

A document is scored alone, packed behind another one, and packed with the mask off. The first two must agree, and the third
must differ: a test whose control passes proves nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cpt_ray.errors import TrainingError
from cpt_ray.records import SelfTest

ScoreTokens = Callable[[Tensor, tuple[int, ...], bool], Tensor]
"""(input_ids [N], segment lengths, mask on) -> nats of token i+1 given token i [N]; collective where the model is sharded."""

_FIRST, _SECOND = 40, 56
_FP32_NATS = 1e-4
_CONTROL_SHARE = 0.1


def run_self_test(score: ScoreTokens, *, vocabulary_size: int, kernel: str, dtype: str, device: torch.device) -> SelfTest:
    """Measure isolation; every rank of a sharded model must call it.

    Args:
        score: Scores a flat row.
        vocabulary_size: Ids are drawn below it, from a fixed seed.
        kernel: Name for the record.
        dtype: `bf16` or `fp32`: decides the tolerance (1e-4 nats, or a tenth of the control's change).
        device: Where the ids go.
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
    allowed = _FP32_NATS if dtype == "fp32" else _CONTROL_SHARE * unmasked
    return SelfTest(
        kernel=kernel,
        dtype=dtype,
        masked_difference=masked,
        unmasked_difference=unmasked,
        allowed_difference=allowed,
        passed=masked <= allowed and unmasked > max(allowed, _FP32_NATS),
    )


def require_isolation(result: SelfTest) -> None:
    """Refuse a model whose packed documents see each other, or whose control shows nothing.

    Raises:
        TrainingError: With the measured differences.
    """
    if result.passed:
        return
    raise TrainingError(
        f"isolation self-test failed on {result.kernel}, {result.dtype}: packed against alone differ by "
        f"{result.masked_difference:.3g} nats (allowed {result.allowed_difference:.3g}), "
        f"with the mask off by {result.unmasked_difference:.3g}",
        fix="this architecture does not pass segments to its attention; use a supported one, or train.isolation=none",
    )
