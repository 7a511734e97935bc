"""What the files of a tokenizer say of its tokens: the end of a text, control tokens, ids that text can produce.

In: a folder with `tokenizer.json`. Out: plain values. Reads JSON only, so it costs what reading the file costs; whether
transformers encodes as the file does is proven at import (`model.bases.tokenizer`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cpt_ray.model.bases.files import BaseFiles

DEFINITION = "tokenizer.json"
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
ENDS_A_TURN = frozenset(
    {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|eot|>", "<|return|>", "<|im_sep|>"}
    | {
        "<|END_OF_TURN_TOKEN|>",
        "<|assistant_end|>",
        "<|user|>",
        "<|end_of_role|>",
        "<|endofturn|>",
        "[/INST]",
        "<|message_end|>",
    }
)
ENDS_A_TEXT = ("<|endoftext|>", "<|end_of_text|>", "<|end▁of▁sentence|>", "<|EOS|>", "<eos>", "</s>")
_MARKER = re.compile(r"<\|[^|\s]+\|>")
"""How control tokens are spelled that a tokenizer does not declare as special."""


class TokenizerFiles:
    """A tokenizer's folder, read as far as it is asked.

    Args:
        folder: The folder.
        key: The key of the study file that names it, for messages.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._files = BaseFiles(folder, key)

    @cached_property
    def definition(self) -> dict[str, Any] | None:
        """The content of `tokenizer.json`; None if there is none.

        Raises:
            ConfigError: If it is a pointer or no tokenizer.
        """
        if not self._files.has(DEFINITION):
            return None
        tree = self._files.json(DEFINITION)
        if not isinstance(tree.get("model"), dict):
            raise self._files.refused(
                f"{self._files.folder / DEFINITION} defines no tokenizer", fix="use the tokenizer.json that came with the model"
            )
        return tree

    @property
    def has_chat_template(self) -> bool:
        """Whether a chat template comes with it, in its settings or in a file of its own."""
        files, folder = self._files, self._files.folder
        if any(folder.glob("chat_template.*")):
            return True
        return files.has(_SETTINGS[0]) and bool(files.json(_SETTINGS[0]).get("chat_template"))

    @property
    def end_of_text(self) -> str | None:
        """The token that the settings name as end of a sequence, if they do."""
        for name in _SETTINGS:
            token = self._files.json(name).get("eos_token") if self._files.has(name) else None
            if isinstance(token, dict):
                token = token.get("content")
            if isinstance(token, str) and token:
                return token
        return None


def vocabulary(definition: Mapping[str, Any]) -> dict[str, int]:
    """Every token with its id, added ones included."""
    found = dict(_model_tokens(definition))
    found.update({str(token["content"]): int(token["id"]) for token in definition.get("added_tokens") or ()})
    return found


def control_tokens(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """Added tokens that no text may produce: those declared special, and those spelled like a control token.

    The unknown token is not one of them: text that the vocabulary lacks does produce it.
    """
    unknown = definition["model"].get("unk_token")
    return tuple(
        str(token["content"])
        for token in definition.get("added_tokens") or ()
        if (token.get("special") or _MARKER.fullmatch(str(token["content"]))) and token["content"] != unknown
    )


def largest_text_id(definition: Mapping[str, Any]) -> int:
    """The largest id that a text can produce: control tokens never do."""
    control = set(control_tokens(definition))
    return max((number for token, number in vocabulary(definition).items() if token not in control), default=-1)


def chat_end_warning(separator: str, known: Mapping[str, int], key: str) -> str | None:
    """A warning if documents would be separated by the end of a chat turn although there is a token for the end of a text.

    Args:
        separator: The token in use.
        known: The vocabulary.
        key: The model's key in the study file.
    """
    better = next((token for token in ENDS_A_TEXT if token in known), None)
    if separator not in ENDS_A_TURN or better is None:
        return None
    return (
        f"{key}: documents are separated by {separator!r}, which ends a turn of a chat; this tokenizer has {better!r} for the "
        f"end of a text: set {key}.separator to it"
    )


def chat_warning(key: str) -> str:
    """The warning for a base that carries a chat template.

    Args:
        key: The model's key in the study file.
    """
    return (
        f"{key}: the base carries a chat template; if it was tuned for chat, training it on plain text wears that off. Two "
        "remedies that train nothing: merges with interpolate go back towards the base; or train the plain base of its family, "
        "and let merges with instruction_residual add instruct minus base to the result"
    )


def _model_tokens(definition: Mapping[str, Any]) -> dict[str, int]:
    tokens = definition["model"].get("vocab") or {}
    return tokens if isinstance(tokens, dict) else {str(pair[0]): place for place, pair in enumerate(tokens)}
