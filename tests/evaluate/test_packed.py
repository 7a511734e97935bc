"""Forward passes: how segments are grouped, and which hidden states come back."""

from __future__ import annotations

import pytest
import torch

from cpt_ray.evaluate.packed import last_states, pass_tokens, plan_forwards
from cpt_ray.model.attention.isolation import hidden_states


def test_forward_passes_hold_at_most_the_batch_and_every_segment_once():
    forwards = plan_forwards([3, 9, 4, 4, 1, 2, 30], batch_tokens=10)

    assert forwards == [[6], [1], [2, 3], [0, 5, 4]]


@pytest.mark.parametrize("row_tokens", [0, 40])
def test_the_last_states_of_each_segment_are_those_of_the_segment_alone(model, row_tokens):
    segments, counts = [[5, 6, 7, 8], [9], [10, 11, 12]], [2, 1, 3]

    found = last_states(model, segments, counts, row_tokens=row_tokens).split(counts)

    for segment, count, states in zip(segments, counts, found, strict=True):
        with torch.no_grad():
            alone = hidden_states(model, torch.tensor(segment), [len(segment)])
        torch.testing.assert_close(states, alone[-count:], rtol=1e-4, atol=1e-5)


def test_auto_takes_small_passes_on_a_cpu_and_a_number_is_kept():
    assert pass_tokens("auto", torch.device("cpu")) < pass_tokens("auto", torch.device("cuda"))
    assert pass_tokens(77, torch.device("cpu")) == 77
