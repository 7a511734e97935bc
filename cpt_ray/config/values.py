"""Quantities in human notation (`400M` tokens, `64MB`, `2h`), and the base class of every section.

Suffixes for tokens and counts are decimal (k, M, B, T); bytes are decimal too (kB, MB, GB); durations are s, m, h, d.
"""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

_COUNT = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Section(BaseModel):
    """A section of the study file: frozen, and unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _quantity(value: object, units: dict[str, int], example: str) -> int:
    # Decimal, because 1.001 * 1000 is not a whole number in binary floating point. YAML 1.1 reads `1e4` as a string.
    text = "" if isinstance(value, bool) else str(value).strip()
    match = re.fullmatch(r"([+-]?[0-9][0-9_]*(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?)\s*([a-z]*)", text.lower())
    if match is None or match[2] not in units:
        raise ValueError(f"expected a quantity such as {example}, saw {value!r}")
    result = Decimal(match[1].replace("_", "")) * units[match[2]]
    if result != result.to_integral_value():
        raise ValueError(f"expected a whole number such as {example}, saw {value!r}")
    return int(result)


def parse_count(value: object) -> int:
    """Read a count such as `400M`, `1_000` or 4096.

    Raises:
        ValueError: If it is not a whole quantity in k, M, B or T.
    """
    return _quantity(value, _COUNT, "400M")


def parse_bytes(value: object) -> int:
    """Read a size such as `64MB` in bytes (decimal).

    Raises:
        ValueError: If it is not a whole quantity in kB, MB, GB or TB.
    """
    return _quantity(value, _BYTES, "64MB")


def parse_seconds(value: object) -> int:
    """Read a duration such as `2h` in seconds.

    Raises:
        ValueError: If it is not a whole quantity in s, m, h or d.
    """
    return _quantity(value, _SECONDS, "2h")


def format_count(value: float) -> str:
    """Format a count to three significant digits: 1000000 -> `1M`, 1536 -> `1.54k`."""
    units = (("", 1.0), ("k", 1e3), ("M", 1e6), ("B", 1e9), ("T", 1e12))
    for unit, size in units:
        # Rounded first: 999,999 is 1M, not 1000k.
        rounded = float(f"{value / size:.3g}")
        if abs(rounded) < 1000 or unit == "T":
            return f"{rounded:g}{unit}"
    return str(value)


Count = Annotated[int, BeforeValidator(parse_count)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Seconds = Annotated[int, BeforeValidator(parse_seconds)]
