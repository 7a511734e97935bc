"""Points of curves from steps and watched metrics."""

from __future__ import annotations

from cpt_ray.edges.tracking.curves import CurvePoint, by_tokens, run_points, score_points
from cpt_ray.records import StepMetrics


def step(number: int, *, loss: float = 2.5, skipped: bool = False) -> StepMetrics:
    return StepMetrics(
        attempt=1, step=number, tokens_seen=100 * number, loss=loss + number, learning_rate=1e-4, gradient_norm=0.5,
        tokens_per_s=100.0, step_s=2.0, data_wait_s=0.0, mfu=None, skipped=skipped,
    )  # fmt: skip


def points(*steps: StepMetrics) -> list[CurvePoint]:
    return run_points(steps, [("during_training.domain.law.bits_per_byte", 100, 1.5)], started_s=1000.0)


def test_points_are_against_tokens_and_a_skipped_step_leaves_none():
    found = points(step(1), step(2, skipped=True), step(3))
    assert CurvePoint("train/loss", 100, 3.5, 1002.0) in found
    assert CurvePoint("train/loss", 300, 5.5, 1006.0) in found
    assert CurvePoint("during_training/domain/law/bits_per_byte", 100, 1.5, 1002.0) in found
    assert {point.tokens for point in found} == {100, 300}
    assert "train/mfu" not in {point.key for point in found}


def test_rows_are_in_the_order_of_tokens_and_scores_are_points():
    assert list(by_tokens([CurvePoint("a", 2, 1.0, 0), CurvePoint("b", 1, 3.0, 0), CurvePoint("b", 2, 4.0, 0)])) == [
        (1, {"b": 3.0}), (2, {"a": 1.0, "b": 4.0}),
    ]  # fmt: skip
    assert score_points({("domain.law.bits_per_byte", 0): 1.25}, 7.0) == [CurvePoint("domain/law/bits_per_byte", 0, 1.25, 7.0)]
