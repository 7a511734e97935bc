"""The names of a model's tensors, as far as its `config.json` tells them without torch.

In: a configuration. Out: the names that a whole base of that architecture has, for the architectures of `_FAMILIES`; for others
the exact comparison is transformers' own, at import. `tests/model/bases/test_names.py` compares every family with transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

WRAPPERS = ("_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module.", "_forward_module.", "model._orig_mod.")
"""Prefixes of names that a wrapper around the model left behind: torch.compile, data parallelism, adapters, FSDP, DeepSpeed."""

_DERIVED = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
"""Ends of names that old files hold and models compute themselves."""

Config = Mapping[str, Any]


class Family(NamedTuple):
    """How an architecture names its tensors."""

    body: str
    """Prefix of all but the output head."""
    outer: tuple[str, ...]
    """Names in the body, outside the layers."""
    layers: str
    layer: Callable[[Config], Iterable[str]]
    head: tuple[str, ...] = ("lm_head.weight",)
    num_layers: str = "num_hidden_layers"
    """Key of the number of layers."""
    tied: bool = False
    """Whether input and output embedding are one tensor, if the configuration does not say."""


class Expected(NamedTuple):
    """The names of a whole base."""

    needed: frozenset[str]
    allowed: frozenset[str]
    """Further names that do no harm: copies of tied weights."""
    body: str
    """Prefix that files of the body alone lack."""


def _named(*names: str, bias: bool = False) -> list[str]:
    return [f"{name}.{kind}" for name in names for kind in (("weight", "bias") if bias else ("weight",))]


def _llama_layer(config: Config, *, norms: tuple[str, ...], biased: Iterable[str] = (), head_norms: bool = False) -> list[str]:
    biases = set(biased) | ({"q", "k", "v", "o"} if config.get("attention_bias") else set())
    names = [f"self_attn.{part}_proj.weight" for part in "qkvo"] + [f"self_attn.{part}_proj.bias" for part in biases]
    names += [f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
    names += [f"mlp.{part}_proj.bias" for part in ("gate", "up", "down")] if config.get("mlp_bias") else []
    return names + _named(*norms, *(("self_attn.q_norm", "self_attn.k_norm") if head_norms else ()))


_BEFORE, _AFTER = "input_layernorm", "post_attention_layernorm"
_FOUR = (_BEFORE, _AFTER, "pre_feedforward_layernorm", "post_feedforward_layernorm")


def _llama_like(*, tied: bool = False, norms: tuple[str, ...] = (_BEFORE, _AFTER), **layer: Any) -> Family:
    return Family(
        "model.",
        ("embed_tokens.weight", "norm.weight"),
        "layers",
        lambda config: _llama_layer(config, norms=norms, **layer),
        tied=tied,
    )


def _phi3_layer(_: Config) -> list[str]:
    return [
        f"{name}.weight"
        for name in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj", _BEFORE, _AFTER)
    ]


def _gpt_like(layer: Callable[[Config], Iterable[str]], *, num_layers: str) -> Family:
    outer = ("wte.weight", "wpe.weight", *_named("ln_f", bias=True))
    return Family("transformer.", outer, "h", layer, num_layers=num_layers, tied=True)


def _gpt2_layer(_: Config) -> list[str]:
    return _named("ln_1", "ln_2", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj", bias=True)


def _gpt_neo_layer(_: Config) -> list[str]:
    attention = [f"attn.attention.{part}_proj.weight" for part in "qkv"]
    return attention + _named("attn.attention.out_proj", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj", bias=True)


_FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("llama", "mistral", "granite", "smollm3"), _llama_like()),
    "qwen2": _llama_like(biased="qkv"),
    "qwen3": _llama_like(head_norms=True),
    "gemma": _llama_like(tied=True),
    "gemma2": _llama_like(tied=True, norms=_FOUR),
    "gemma3_text": _llama_like(tied=True, norms=_FOUR, head_norms=True),
    **dict.fromkeys(("olmo2", "olmo3"), _llama_like(norms=(_AFTER, _FOUR[3]), head_norms=True)),
    "phi3": Family("model.", ("embed_tokens.weight", "norm.weight"), "layers", _phi3_layer),
    "gpt2": _gpt_like(_gpt2_layer, num_layers="n_layer"),
    "gpt_neo": _gpt_like(_gpt_neo_layer, num_layers="num_layers"),
}


def expected_names(config: Config) -> Expected | None:
    """The names of a whole base with this configuration; None if its architecture is not in the table."""
    family = _FAMILIES.get(str(config.get("model_type")))
    layers = config.get(family.num_layers, config.get("num_hidden_layers")) if family else None
    if family is None or not isinstance(layers, int):
        return None
    names = [family.body + name for name in family.outer]
    layer = list(family.layer(config))
    names += [f"{family.body}{family.layers}.{number}.{name}" for number in range(layers) for name in layer]
    tied = config.get("tie_word_embeddings", family.tied)
    return Expected(frozenset(names if tied else [*names, *family.head]), frozenset(family.head if tied else ()), family.body)


def is_derived(name: str) -> bool:
    """Whether a tensor is one that models compute themselves and old files hold as well."""
    return name.endswith(_DERIVED)


def wrapper_of(names: Iterable[str]) -> str | None:
    """The wrapper's prefix that names begin with, if any."""
    return next((prefix for name in names for prefix in WRAPPERS if name.startswith(prefix)), None)
