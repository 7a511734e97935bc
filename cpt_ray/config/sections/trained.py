"""Rules between the keys of `train` that choose what trains and how fast: adapters, frozen weights, the rate of embeddings.

In: the `train` section. Out: nothing. Guarantee: pure; every error is a ValueError that names the keys and what to set.
Patterns of names need the model: `model/layers/freezing.py` checks them when a study is planned.
"""

from cpt_ray.config.sections.train import TrainConfig


def check_trained(train: TrainConfig) -> None:
    """Refuse settings of which one makes another without effect, or breaks what it promises.

    Raises:
        ValueError: Names the keys and what to set.
    """
    if train.lora is not None and train.freeze:
        raise ValueError(
            "train.lora and train.freeze are both set, but under LoRA every weight of the base is frozen; leave train.freeze "
            "out, and choose the layers that get adapters with train.lora.target_modules"
        )
    if train.lora is not None and train.embedding_learning_rate_factor != 1:
        raise ValueError(
            f"train.embedding_learning_rate_factor is {train.embedding_learning_rate_factor:g}, but train.lora trains neither "
            "embeddings nor output head; leave one of them out"
        )
    if train.freeze and train.precision == "fp16":
        raise ValueError(
            "train.freeze promises the base's weights bit for bit, but train.precision fp16 rounds its smallest ones; set "
            "train.precision to bf16 or fp32, which hold all of them"
        )
