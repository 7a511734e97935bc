"""Rules of `models[]` that start from random weights: which keys they need, and which make no sense for them.

Part of the validation of a study file; everything here raises `ValueError` with a fix, or returns. Whether `config` describes a
model that can be trained is what its proof finds out (`model.bases.init`).
"""

from collections.abc import Mapping, Sequence

from cpt_ray.config.plain_text import shorten
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.config.sections.train import ModelConfig

_EXAMPLE = (
    "{architecture: llama, hidden_size: 128, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2, "
    "intermediate_size: 384, tie_word_embeddings: true, max_position_embeddings: 2048}"
)
_ONLY_NEW = ("config", "train_tokenizer", "init_seed")
_ONLY_TRAINED = {
    "peak_learning_rate": "it has no rate of its own: set train.learning_rate to a number",
    "final_learning_rate": "it has no rate of its own: set train.learning_rate to a number",
    "new_tokens": "all of its tokens are new: let its tokenizer have them",
}


def check_new_models(models: Sequence[ModelConfig], sources: Sequence[SourceConfig]) -> None:
    """Check the keys of models that start from random weights, and that no other model has them.

    Raises:
        ValueError: Naming the key and what to change.
    """
    by_name = {source.name: source for source in sources}
    for model in models:
        if model.is_new:
            _check_new(model, by_name)
        elif wrong := [key for key in _ONLY_NEW if getattr(model, key) != ModelConfig.model_fields[key].default]:
            raise ValueError(
                f"models.{model.name}.{wrong[0]} is for base: init, but its base is {shorten(model.base)}, which has "
                f"weights and a tokenizer; leave {wrong[0]} out, or set base to init"
            )


def _check_new(model: ModelConfig, sources: Mapping[str, SourceConfig]) -> None:
    place = f"models.{model.name}"
    if model.config is None:
        raise ValueError(f"{place} has base: init, but no config that says what to initialize; for example {_EXAMPLE}")
    if not isinstance(model.config.get("architecture"), str):
        raise ValueError(f"{place}.config needs architecture, a model type of transformers; for example {_EXAMPLE}")
    if (model.tokenizer is None) == (model.train_tokenizer is None):
        seen = "no tokenizer" if model.tokenizer is None else "both tokenizer and train_tokenizer"
        raise ValueError(
            f"{place} has base: init and {seen}; set {place}.tokenizer to a folder or a name on the hub, or "
            f"{place}.train_tokenizer to {{vocabulary: 8k, sources: [{', '.join(sources)}]}}"
        )
    for key, why in _ONLY_TRAINED.items():
        if getattr(model, key):
            raise ValueError(f"{place}.{key} is of a trained base, but base is init; leave {key} out: {why}")
    if model.revision is not None and model.tokenizer is None:
        raise ValueError(
            f"{place}.revision pins what comes from the hub, but base is init and its tokenizer is learned here; leave "
            "revision out"
        )
    for name in model.train_tokenizer.sources if model.train_tokenizer is not None else ():
        _check_source(f"{place}.train_tokenizer.sources", name, sources)


def _check_source(place: str, name: str, sources: Mapping[str, SourceConfig]) -> None:
    source = sources.get(name)
    if source is None:
        raise ValueError(f"{place} names source {name!r}; known sources: {', '.join(sources)}")
    if source.parent is not None:
        raise ValueError(f"{place} names {name}, which is derived; name the source that it is read from")
    if not source.is_packed:
        raise ValueError(f"{place} names {name}, a {source.role} source, which no arm may train on; name another source")
