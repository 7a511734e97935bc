"""Rows split over workers, and what an uneven split costs."""

import pytest

from cpt_ray.train.order.batch_split import BatchSplit


@pytest.mark.parametrize(
    ("rows", "workers", "micro", "expected"), [(8, 1, 1, 8), (8, 2, 2, 2), (8, 3, 1, 3), (8, 8, 1, 1), (9, 2, 4, 2)]
)
def test_accumulation_is_equal_on_all_workers(rows, workers, micro, expected):
    assert BatchSplit(rows, workers, micro).accumulation_steps == expected


@pytest.mark.parametrize(
    ("rows", "workers", "micro", "idle"),
    [(8, 2, 2, 0), (8, 3, 1, 1 / 9), (8, 5, 1, 2 / 10), (8, 2, 3, 4 / 12), (9, 8, 1, 7 / 16)],
)
def test_fillers_are_counted(rows, workers, micro, idle):
    assert BatchSplit(rows, workers, micro).idle_share == pytest.approx(idle)


def test_an_uneven_deal_is_described_with_what_would_be_even_and_an_even_one_is_not():
    assert BatchSplit(8, 3, 1).describe_idle() == (
        "11.1 % of the computed rows are idle: 8 rows per step over 3 workers in micro-batches of 1; "
        "even over 1, 2, 4, 8 workers"
    )
    assert BatchSplit(7, 1, 2).describe_idle() == (
        "12.5 % of the computed rows are idle: 7 rows per step over 1 workers in micro-batches of 2; "
        "a micro-batch of 2 never divides it evenly"
    )
    assert BatchSplit(8, 4, 2).describe_idle() is None
