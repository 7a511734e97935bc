"""Freezing: parameters chosen by patterns of their names keep the base's values (`train.freeze`).

In: patterns, and a model or the record of one. Out: the names that are frozen, the same from both, so that a plan counts what
training does. Guarantee: a pattern that chooses nothing, and patterns that leave nothing to train, are refused; a frozen
parameter has no gradient and no optimizer state, and its export is the base's bit for bit.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cpt_ray.errors import ConfigError

if TYPE_CHECKING:  # a plan needs the names only, and is printed without torch
    from torch import nn

_NEAR = 3


def parameter_names(model: nn.Module) -> dict[str, str]:
    """Every name of every parameter to its first name, in the model's order; only a tied parameter has several."""
    firsts: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    return {name: firsts.setdefault(id(parameter), name) for name, parameter in named}


def frozen_names(patterns: Sequence[str], names: Mapping[str, str], architecture: str) -> list[str]:
    """The first names of the parameters that patterns choose, in the model's order.

    Args:
        patterns: `train.freeze`, as in `fnmatch`; a tied parameter may be given by any of its names.
        names: See `parameter_names`.
        architecture: The model's name in messages.

    Raises:
        ConfigError: If a pattern chooses nothing, or all of them together choose everything.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            raise ConfigError(
                f"train.freeze: {pattern!r} matches no parameter of {architecture}",
                fix=f"near names: {', '.join(_near(pattern, names))}; * stands for any characters, dots included",
            )
        chosen.update(names[name] for name in found)
    if chosen and chosen == set(names.values()):
        raise ConfigError(
            f"train.freeze: {', '.join(patterns)} choose all {len(chosen)} parameters of {architecture}, and none would train",
            fix="take out or narrow a pattern",
        )
    return [name for name, first in names.items() if name == first and first in chosen]


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze the parameters of `model` that patterns choose, and return their names; see `frozen_names`.

    Raises:
        ConfigError: If a pattern chooses nothing, or all of them together choose everything.
    """
    frozen = frozen_names(patterns, parameter_names(model), type(model).__name__)
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return frozen


def _near(pattern: str, names: Mapping[str, str]) -> list[str]:
    """Names near a pattern, compared without numbers and wildcards: one layer stands for all."""
    plain = {re.sub(r"\d+", "0", name): name for name in reversed(list(names))}
    asked = re.sub(r"\[[^]]*\]|\d+", "0", pattern).replace("*", "").replace("?", "").strip(".")
    holding = [name for short, name in plain.items() if asked and asked in short]
    close = difflib.get_close_matches(asked, plain, n=_NEAR, cutoff=0)
    return list(dict.fromkeys([*holding, *(plain[short] for short in close)]))[:_NEAR]
