"""Whether two models are of one family, so that their weights can be added: the same tensors, the same tokens.

In: folders of models. Out: nothing, or an error with both values. Reads headers and tokenizers, no weights, and needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.files import BaseFiles
from cpt_ray.model.bases.tokens import TokenizerFiles, vocabulary


def require_same_tensors(first: Path, other: Path, *, key: str = "merges", whole: bool = True) -> None:
    """Refuse models whose tensors have other names or shapes.

    Args:
        first: Folder of the model that is kept.
        other: Folder of the other one.
        key: The key of the study file that names the other, for messages.
        whole: Whether both must have the same names; files that were not imported may hold copies of tied weights.

    Raises:
        ConfigError: Naming a tensor with both shapes, or one that only one of them has.
    """
    ours, theirs = (BaseFiles(folder, key).tensors for folder in (first, other))
    fix = (
        "only models of one family and size can be merged: give the one that was made from this very base, or name the budgets "
        "of its size under `of`"
    )
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name].shape != theirs[name].shape:
            raise ConfigError(
                f"{key}: {name} is {_by(theirs[name].shape)} in {other}, but {_by(ours[name].shape)} in {first}", fix=fix
            )
    if whole and (alone := sorted(ours.keys() ^ theirs.keys())):
        owner, missing = (first, other) if alone[0] in ours else (other, first)
        raise ConfigError(f"{key}: {owner} has the tensor {alone[0]}, which {missing} lacks ({len(alone)} such)", fix=fix)


def require_same_tokenizer(first: Path, other: Path, *, key: str) -> None:
    """Refuse a model to which the same ids are other tokens.

    Args:
        first: Folder of the model that is kept.
        other: Folder of the other one.
        key: The key of the study file that names the other, for messages.

    Raises:
        ConfigError: Naming a token with both ids, or the models' different rules of splitting.
    """
    mine, its = (TokenizerFiles(folder, key).definition for folder in (first, other))
    if mine is None or its is None:
        return  # converted at import, and compared then
    ours, theirs = vocabulary(mine), vocabulary(its)
    fix = "give an instruct model of the same family, with the same tokenizer"
    if different := sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)):
        token = different[0]
        ids = " and ".join(f"{known.get(token, 'none')} in {folder}" for known, folder in ((theirs, other), (ours, first)))
        raise ConfigError(f"{key}: {len(different)} tokens have other ids: {token!r} is {ids}", fix=fix)
    if mine["model"].get("merges") != its["model"].get("merges"):
        raise ConfigError(f"{key}: the tokenizer of {other} splits text by other rules than that of {first}", fix=fix)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
