"""The tokens around every document: as set in the study file, otherwise as defined by the imported base's tokenizer.

Resolved only here, for packing and for scoring. Reads two files of an imported base, and does not need transformers.
"""

from __future__ import annotations

from pathlib import Path

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.errors import ConfigError, DataError
from cpt_ray.records import ImportedModel, TextTokens


def text_tokens(config: ModelConfig, folder: Path) -> TextTokens:
    """Resolve separator and BOS of a model.

    Args:
        config: The model in the study file.
        folder: Its imported base.

    Raises:
        ConfigError: If the study names a token that is not in the tokenizer, or neither defines a separator.
        DataError: If the tokenizer is not fast.
    """
    model = ImportedModel.of(folder)
    separator = config.separator or model.end_of_text
    if separator is None:
        raise ConfigError(
            f"models.{config.name}: the tokenizer has no end-of-text token", fix=f"set models.{config.name}.separator"
        )
    bos = model.added_bos if config.bos is None else None if config.bos == "none" else config.bos
    for key, token in (("separator", separator), ("bos", bos)):
        if token is not None and not _knows(folder, token):
            raise ConfigError(
                f"models.{config.name}.{key} is {token!r}, which is not a single token of the tokenizer",
                fix=f"use one of its special tokens ({', '.join(model.special_tokens)}){', or `none`' if key == 'bos' else ''}",
            )
    return TextTokens(separator=separator, bos=bos)


def _knows(folder: Path, token: str) -> bool:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(f"{folder}: no fast tokenizer", fix="point the model's base at a folder that holds tokenizer.json")
    return Tokenizer.from_file(str(path)).token_to_id(token) is not None
