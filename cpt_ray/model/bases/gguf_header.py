"""The header of a GGUF file: its metadata and the shapes of its tensors, without the weights and without the package gguf.

In: a file. Out: `GgufHeader`. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. Costs
what reading the vocabulary costs, a tenth of a second.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cpt_ray.errors import ConfigError

_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LONGEST = 1 << 24
_VERSIONS = (2, 3)


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself."""

    values: dict[str, Any]
    parameters: int

    @property
    def context(self) -> int | None:
        """Tokens that the model was made for."""
        found = self.values.get(f"{self.values.get('general.architecture')}.context_length")
        return found if isinstance(found, int) else None

    @property
    def tokens(self) -> list[str]:
        """The vocabulary, by id."""
        return list(self.values.get("tokenizer.ggml.tokens") or ())

    @property
    def end_of_text(self) -> str | None:
        """The token that ends a sequence, if it names one."""
        number, tokens = self.values.get("tokenizer.ggml.eos_token_id"), self.tokens
        return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None


def read_header(path: Path, key: str) -> GgufHeader:
    """Read the header of a GGUF file.

    Args:
        path: The file, which begins with `GGUF`.
        key: What names the file, for messages.

    Raises:
        ConfigError: If the file ends within its header, or has another version.
    """
    with path.open("rb") as stream:
        stream.seek(4)
        try:
            (version,) = _unpack(stream, "<I")
            if version not in _VERSIONS:
                raise ConfigError(f"{key}: {path} is GGUF of version {version}", fix="convert it to version 3")
            tensors, pairs = _unpack(stream, "<QQ")
            values = {_text(stream): _value(stream, _unpack(stream, "<I")[0]) for _ in range(pairs)}
            return GgufHeader(values, sum(_weights(stream) for _ in range(tensors)))
        except (struct.error, OverflowError, KeyError, MemoryError) as error:
            raise ConfigError(f"{key}: {path} ends within its header, or is damaged", fix="download the base again") from error


def _unpack(stream: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, stream.read(struct.calcsize(form)))


def _text(stream: BinaryIO) -> str:
    (length,) = _unpack(stream, "<Q")
    if length > _LONGEST:
        raise OverflowError
    return stream.read(length).decode(errors="replace")


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(stream)
    if kind == _ARRAY:
        inner, count = _unpack(stream, "<IQ")
        if count > _LONGEST:
            raise OverflowError
        return [_value(stream, inner) for _ in range(count)]
    return _unpack(stream, _NUMBERS[kind])[0]


def _weights(stream: BinaryIO) -> int:
    _text(stream)
    (dimensions,) = _unpack(stream, "<I")
    if dimensions > 8:
        raise OverflowError
    shape = _unpack(stream, f"<{dimensions}Q")
    _unpack(stream, "<IQ")
    return math.prod(shape)
