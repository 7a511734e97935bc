"""The `train.lora` section."""

import pytest

from cpt_ray.config.load import parse_study
from tests.config.spoiled import refusal, spoil


def test_all_weights_are_trained_unless_adapters_are_asked_for(tree):
    assert parse_study(tree, place="study.yaml").train.lora is None
    lora = parse_study(spoil(tree, "train.lora", {"rank": 8, "alpha": 16}), place="study.yaml").train.lora
    assert lora is not None
    assert (lora.rank, lora.alpha, lora.dropout, lora.target_modules) == (8, 16, 0.0, ())


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 0, "alpha": 16}, "train.lora.rank: Input should be greater than or equal to 1, saw 0"),
        ({"rank": 8}, "missing key train.lora.alpha"),
        ({"rank": 8, "alpha": 16, "dropout": 1}, "train.lora.dropout: Input should be less than 1, saw 1"),
    ],
)
def test_a_wrong_adapter_is_refused(tree, lora, message):
    assert message in refusal(spoil(tree, "train.lora", lora))
