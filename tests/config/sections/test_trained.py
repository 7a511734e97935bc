"""Settings of what trains that contradict each other: each message, and both sides of each boundary."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import parse_study
from cpt_ray.errors import ConfigError

LORA = {"rank": 4, "alpha": 8}
REFUSED = {
    "adapters and patterns": (
        {"lora": LORA, "freeze": ["model.embed_tokens.*"]},
        "train.lora and train.freeze are both set, but under LoRA every weight of the base is frozen; leave train.freeze out, "
        "and choose the layers that get adapters with train.lora.target_modules",
    ),
    "adapters and a rate for embeddings": (
        {"lora": LORA, "embedding_learning_rate_factor": 0.2},
        "train.embedding_learning_rate_factor is 0.2, but train.lora trains neither embeddings nor output head; leave one "
        "of them out",
    ),
    "frozen weights in fp16": (
        {"freeze": ["*"], "precision": "fp16"},
        "train.freeze promises the base's weights bit for bit, but train.precision fp16 rounds its smallest ones; set "
        "train.precision to bf16 or fp32, which hold all of them",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_contradiction_names_the_keys_and_what_to_set(tree, name):
    settings, message = REFUSED[name]
    tree["train"] |= settings
    with pytest.raises(ConfigError) as caught:
        parse_study(tree, place="study.yaml")
    assert caught.value.problem == f"study.yaml: {message}"


@pytest.mark.parametrize(
    "settings",
    [
        {"lora": LORA, "embedding_learning_rate_factor": 1},
        {"freeze": ["*.layers.[0-3].*"], "embedding_learning_rate_factor": 0.2},
        {"freeze": ["*"], "precision": "fp32"},
        {"precision": "fp16"},
    ],
)
def test_what_does_not_contradict_is_accepted(tree, settings):
    tree["train"] |= settings
    parse_study(tree, place="study.yaml")


@pytest.mark.parametrize("factor", [0, -0.5])
def test_a_factor_that_is_no_rate_is_refused(tree, factor):
    tree["train"]["embedding_learning_rate_factor"] = factor
    with pytest.raises(ConfigError, match=r"train\.embedding_learning_rate_factor"):
        parse_study(tree, place="study.yaml")
