"""Run events keep values that JSON cannot represent."""

import math

import pytest

from cpt_ray.records import RunEvent


@pytest.mark.parametrize("loss", [math.inf, -math.inf, math.nan, 1.5])
def test_an_event_keeps_a_loss_that_is_no_number(loss):
    event = RunEvent(kind="skipped_step", attempt=1, step=2, tokens_seen=5, text="loss is inf", loss=loss)
    found = RunEvent.from_json(event.to_json()).loss
    assert found is not None
    assert math.isnan(found) if math.isnan(loss) else found == loss
