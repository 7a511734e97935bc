"""Models that start from random weights: `models[].config` becomes a configuration of transformers, and that a seeded model.

In: a model with `base: init`. Out: a configuration, what is known of it before it is built, or the model. The weights are those
of transformers' own initialization of the architecture (`_init_weights`: its standard deviation, and the scaling of residual
projections where the architecture has one, as GPT-2 does).

Guarantee: the same configuration, seed and versions of torch and transformers give the same bits in any process. A model on
which packed documents would see each other is refused before anything is prepared: two of its layers are built and tried.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cpt_ray.config.plain_text import shorten
from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.packages import resolve_package
from cpt_ray.errors import ConfigError, CptRayError
from cpt_ray.model.attention.alone import self_test
from cpt_ray.model.attention.isolation import head_shape, use_document_attention
from cpt_ray.model.bases.tokens import TokenizerFiles, vocabulary
from cpt_ray.model.bases.window import LEAST_POSITIONS
from cpt_ray.model.head import install_loss_head
from cpt_ray.model.shape import describe_model
from cpt_ray.records import ImportedModel, SelfTest

_TRIED_VOCABULARY = 512
_TRIED_LAYERS, _TRIED_KINDS = 2, 4
"""Layers of the model that is tried: enough for documents to meet, and for every kind where layers alternate."""
_MOST_TRIED = 500_000_000
"""Parameters of the model that is tried, 2 GB."""
_SIZES = ("hidden_size", "num_", "vocab_size", "intermediate_size", "max_position_embeddings", "n_", "head_dim")
"""Begins the names of keys whose values are at least 1."""
_SUPPORTED = "use an architecture with full causal attention in every layer, such as llama, qwen3, olmo2 or gpt2"
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def describe_new(model: ModelConfig) -> ImportedModel:
    """The shape of a model that is not built yet; its tokenizer is read, or known to have the size that it is trained to.

    Raises:
        ConfigError: If `config` describes no model that can be trained, or does not fit the tokenizer.
    """
    return _describe(model, new_config(model, _rows(model)))


def prove_new(model: ModelConfig, lengths: Mapping[str, int]) -> str:
    """Prove that a model can be built and trained.

    Args:
        model: The model in the study file.
        lengths: Key of the study file to a length of rows in tokens.

    Returns:
        Its architecture, parameters and seed, in words.

    Raises:
        ConfigError: If `config` describes no model that can be trained, does not fit the tokenizer or the rows, or if the
            architecture does not keep packed documents apart.
    """
    config = new_config(model, _rows(model))
    _check_lengths(model, config, lengths)
    shape = _describe(model, config)
    tried = _prove_isolation(model)
    later = "" if tried else "; whether it keeps documents apart is proven when it trains"
    return f"{shape.architecture} from random weights, {shape.shape.parameters:,} parameters, seed {model.init_seed}{later}"


def build_new(model: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Build the model in fp32, with weights drawn from its seed.

    Raises:
        ConfigError: If `config` describes no model that can be trained, or does not fit the tokenizer.
    """
    ids = {name: getattr(tokenizer, name) for name in _IDS}
    rows = max(tokenizer.get_vocab().values()) + 1
    return _build(new_config(model, rows, ids), model.init_seed)


def new_config(model: ModelConfig, rows: int, ids: Mapping[str, int | None] | None = None) -> PretrainedConfig:
    """The configuration of a model.

    Args:
        model: The model in the study file.
        rows: Tokens of its tokenizer, the vocabulary unless `config` has a larger one.
        ids: The tokenizer's special tokens, where `config` does not name them.

    Raises:
        ConfigError: If the architecture or a key is unknown, values do not fit each other, or the vocabulary is too small.
    """
    key = f"models.{model.name}.config"
    kind, given = _kind_of(model, key)
    for one, value in given.items():
        if one.startswith(_SIZES) and isinstance(value, int) and value < 1:
            raise ConfigError(f"{key}.{one} is {value}", fix=f"set {key}.{one} to at least 1")
    small = given.get("vocab_size", rows)
    if isinstance(small, int) and small < rows:
        raise ConfigError(
            f"{key}.vocab_size is {small}, but the tokenizer has {rows} tokens",
            fix=f"leave {key}.vocab_size out, or set it to {rows}",
        )
    try:
        config = kind(**{**dict.fromkeys(_IDS), **(ids or {}), "vocab_size": rows, **given})
    # transformers raises errors of its own, some of them two lines long, and others where a value has the wrong type.
    except Exception as error:
        raise ConfigError(f"{key}: {kind.__name__} refuses it: {_reason(error)}", fix=f"change {key}") from error
    if not hasattr(config, "num_attention_heads"):
        raise ConfigError(
            f"{key}: a model of architecture {(model.config or {})['architecture']} has no attention heads: what it remembers "
            "of one packed document runs on into the next",
            fix=_SUPPORTED,
        )
    (heads, key_heads, _), hidden = head_shape(config), int(config.hidden_size)
    if hidden % heads and not getattr(config, "head_dim", None):
        raise ConfigError(
            f"{key}: hidden_size {hidden} is not a multiple of num_attention_heads {heads}",
            fix=f"set hidden_size to {max(1, round(hidden / heads)) * heads}, or another number of heads",
        )
    if key_heads < 1 or heads % key_heads:
        divisors = [count for count in range(1, heads + 1) if heads % count == 0]
        raise ConfigError(
            f"{key}: num_attention_heads {heads} is not a multiple of num_key_value_heads {key_heads}"
            + ("" if "num_key_value_heads" in given else f", the default of {kind.__name__}"),
            fix=f"set num_key_value_heads to one of {', '.join(map(str, divisors))}",
        )
    return config


def _kind_of(model: ModelConfig, key: str) -> tuple[type[PretrainedConfig], dict[str, Any]]:
    """The class of a model's configuration, and the values given for it."""
    given = dict(model.config or {})
    name = str(given.pop("architecture", ""))
    causal = sorted(kind for kind, made in CONFIG_MAPPING.items() if made in MODEL_FOR_CAUSAL_LM_MAPPING)
    if name not in causal:
        near = difflib.get_close_matches(name[:100].lower(), causal, n=1, cutoff=0.6)
        known = f"did you mean {near[0]}?" if near else "use a model type of transformers, such as llama, qwen3 or gpt2"
        raise ConfigError(
            f"{key}.architecture is {shorten(name)}, which transformers does not have as a causal language model", fix=known
        )
    kind: type[PretrainedConfig] = CONFIG_MAPPING[name]
    own = {field.name for field in dataclasses.fields(kind)} - {field.name for field in dataclasses.fields(PretrainedConfig)}
    known_keys = sorted(own | set(kind.attribute_map) | {"tie_word_embeddings"})
    for one in given:
        if one not in known_keys:
            near = difflib.get_close_matches(one[:100], known_keys, n=1, cutoff=0.5)
            raise ConfigError(
                f"{key}.{shorten(one)} is no key of {kind.__name__}",
                fix=f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known_keys)}",
            )
    return kind, {kind.attribute_map.get(one, one): value for one, value in given.items()}


def _rows(model: ModelConfig) -> int:
    """Tokens of a model's tokenizer."""
    if model.train_tokenizer is not None:
        return model.train_tokenizer.vocabulary
    place = resolve_package(str(model.tokenizer))
    definition = TokenizerFiles(Path(place), f"models.{model.name}.tokenizer").definition if Path(place).is_dir() else None
    if definition is not None:
        return max(vocabulary(definition).values()) + 1
    try:
        return len(
            AutoTokenizer.from_pretrained(place, revision=model.revision or "main", trust_remote_code=model.trust_remote_code)
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"models.{model.name}.tokenizer: {model.tokenizer!r} cannot be loaded: {_reason(error)}",
            fix="use a folder with tokenizer.json, a hub name that this machine can reach, or train_tokenizer",
        ) from error


def _check_lengths(model: ModelConfig, config: PretrainedConfig, lengths: Mapping[str, int]) -> None:
    most, key = getattr(config, "max_position_embeddings", None), f"models.{model.name}.config.max_position_embeddings"
    needs = {**lengths, "the isolation self-test": LEAST_POSITIONS}
    for name, tokens in needs.items():
        if isinstance(most, int) and tokens > most:
            raise ConfigError(
                f"{key} is {most}, but {name} needs {tokens} tokens", fix=f"set {key} to at least {max(needs.values())}"
            )


def _prove_isolation(model: ModelConfig) -> bool:
    """Build some layers of the model with a small vocabulary, and try whether they keep packed documents apart.

    Returns:
        Whether it was tried: layers that are very large are not, because a study may be checked on a small machine.
    """
    kind, given = _kind_of(model, f"models.{model.name}.config")
    layers = kind.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    kinds = given.get("layer_types")
    cut = {"layer_types": kinds[:_TRIED_KINDS]} if isinstance(kinds, list) else {}
    few = {**given, **cut, layers: len(kinds[:_TRIED_KINDS]) if isinstance(kinds, list) else _TRIED_LAYERS}
    given_layers = given.get(layers)
    if isinstance(given_layers, int):
        few[layers] = min(few[layers], given_layers)
    few.pop("vocab_size", None)
    tried = model.model_copy(update={"config": {**few, "architecture": (model.config or {})["architecture"]}})
    config = new_config(tried, _TRIED_VOCABULARY)
    if _describe(tried, config).shape.parameters > _MOST_TRIED:
        return False
    result: SelfTest | None = None
    try:
        made = _build(config, 0)
        install_loss_head(made)
        use_document_attention(made)
        result = self_test(made.eval())
        problem = None if result.passed else f"packed, a document's scores change by {result.masked_difference:.2g} nats"
    except CptRayError as error:
        problem = error.problem
    except Exception as error:  # an architecture that is not made for this fails in its own way, each another one
        problem = f"{type(error).__name__}: {_reason(error)}"
    if problem is not None:
        raise ConfigError(
            f"models.{model.name}.config: packed documents would see each other in a model of architecture "
            f"{(model.config or {})['architecture']}, or it cannot be trained here: {problem}",
            fix=_SUPPORTED,
        )
    return True


def _build(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    # The process's own stream of random numbers stays where it is.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


def _describe(model: ModelConfig, config: PretrainedConfig) -> ImportedModel:
    try:
        with torch.device("meta"):
            return describe_model(AutoModelForCausalLM.from_config(config), None)
    except Exception as error:  # each architecture has its own
        raise ConfigError(
            f"models.{model.name}.config: {type(config).__name__} takes it, but no model can be built of it: {_reason(error)}",
            fix=f"change models.{model.name}.config, or {_SUPPORTED}",
        ) from error


def _reason(error: Exception) -> str:
    """The last line of an error of transformers, which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
