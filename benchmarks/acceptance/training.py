"""Run every box of the training acceptance list and print PASS or FAIL with the evidence.

Run by `make accept-training`, or for selected boxes: `python -m benchmarks.acceptance.training 1 2`. Boxes 1 to 5 are tests:
those marked `accept(training=N)` are box N's evidence, and the figures they record with pytest's `record_property` are printed.
A box fails if one of its tests fails or is skipped, or if a required figure was not recorded, so that a case cannot drop out of
a test unnoticed. Box 6 reads `benchmarks/results/train.json`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from benchmarks.acceptance.evidence import check_results, run_boxes, run_tests

PRECISIONS = ("fp32", "bf16")
RESUMES = ((2, 1), (1, 2), (2, 4), (3, 6))
CLAIMS = tuple(
    f"train.{name}"
    for name in (
        "tokens_per_second", "bare_ratio", "zero3_bare_ratio", "ray_ratio", "peak_share", "hf_trainer_ratio", "data_wait_share",
        "checkpoint_stall_share", "position_seconds", "tokens_paid_ratio",
    )
)  # fmt: skip
WAYS = ("0 none", "1 none", "1 optimizer", "2 none", "2 optimizer", "3 none", "3 optimizer", "3 parameters")


evidence_of = functools.partial(run_tests, "training")


def box_1_bitwise() -> list[str]:
    """N steps straight = k, kill -9, resume, N - k: bitwise on CPU in fp32 and bf16 for ZeRO 0 to 3, same worker count."""
    return evidence_of(1, figures=[f"zero {stage} {precision}" for stage in range(4) for precision in PRECISIONS])


def box_2_any_worker_count() -> list[str]:
    """Another worker count: same sample ids, loss within 1e-5 (fp32) and 5e-4 (bf16), ten times closer than without moments."""
    resumes = [f"{before} to {after} workers {precision}" for before, after in RESUMES for precision in PRECISIONS]
    divisions = [f"{what} {precision}" for what in ("accumulation", "micro-batch", "worker count") for precision in PRECISIONS]
    return evidence_of(2, figures=[*resumes, "resume without optimizer moments", *divisions])


def box_3_matrix() -> list[str]:
    """Stage x precision x offload on tiny models, tied and untied; each export reloads with equal logits."""
    ties = ("tied", "untied")
    return evidence_of(3, figures=[f"zero {way} {precision} {tie}" for way in WAYS for precision in PRECISIONS for tie in ties])


def box_4_chaos() -> list[str]:
    """20 random kills (worker, raylet, driver) during a tiny study on two simulated nodes."""
    return evidence_of(4, figures=["kills", "starts of training above step 0", "positions", "held-out scores"])


def box_5_one_writer() -> list[str]:
    """The second of two drivers on one study is refused; so is a commit from an older attempt."""
    return evidence_of(5, figures=["second driver", "commit of an older attempt"])


def box_6_benchmarks() -> list[str]:
    """`make bench-train` is committed, with every claim; missed targets are named."""
    return check_results("train", CLAIMS, made_by="make bench-train")


BOXES: tuple[Callable[[], list[str]], ...] = (
    box_1_bitwise,
    box_2_any_worker_count,
    box_3_matrix,
    box_4_chaos,
    box_5_one_writer,
    box_6_benchmarks,
)

if __name__ == "__main__":
    sys.exit(run_boxes(BOXES, sys.argv[1:]))
