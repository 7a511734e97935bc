"""The harness itself: results by rank, one group for many jobs, and failures that are reported."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist

from tests.train.engine.zero_group import JobError


def rank_and_sum(value):
    total = torch.tensor(float(value + dist.get_rank()))
    dist.all_reduce(total)
    return os.getpid(), dist.get_rank(), dist.get_world_size(), float(total)


def fail_on_rank_one():
    if dist.get_rank() == 1:
        raise ValueError("as planned")
    dist.barrier()


def die_on_rank_one():
    if dist.get_rank() == 1:
        os._exit(3)
    dist.barrier()


def test_every_rank_answers_and_the_group_is_kept(zero_groups):
    first, second = zero_groups.of(2).run(rank_and_sum, 10), zero_groups.of(2).run(rank_and_sum, 20)
    assert [result[1:] for result in first] == [(0, 2, 21.0), (1, 2, 21.0)]
    assert [result[3] for result in second] == [41.0, 41.0]
    assert [result[0] for result in first] == [result[0] for result in second]


def test_a_failing_or_dying_rank_is_named_and_the_next_job_gets_a_new_group(zero_groups):
    before = zero_groups.of(2).run(rank_and_sum, 0)
    with pytest.raises(JobError, match=r"(?s)rank 1: Traceback.*ValueError: as planned"):
        zero_groups.of(2).run(fail_on_rank_one)
    with pytest.raises(JobError, match="rank 1: died"):
        zero_groups.of(2).run(die_on_rank_one)
    after = zero_groups.of(2).run(rank_and_sum, 0)
    assert {result[0] for result in before}.isdisjoint(result[0] for result in after)
