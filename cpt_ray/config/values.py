"""Quantities in human notation (`400M` tokens, `64MB`, `2h`), names, paths, and the base class of every section.

Suffixes for tokens and counts are decimal (k, M, B, T); bytes are decimal too (kB, MB, GB); durations are s, m, h, d.
"""

import os
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, field_validator

from cpt_ray.config.plain_text import LARGEST_INTEGER, SMALLEST_INTEGER, shorten

_COUNT = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

LONGEST_NAME = 64
LONGEST_TASK = 128
_LONGEST_FILE_NAME = 255
_LONGEST_PATH = 3500
"""In bytes; Linux allows 4,096, and what is written below a root needs some."""
_STORES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
"""Schemes of roots on an object store, and the one they are kept under."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def as_tuple(value: object) -> object:
    """Take one text for a list of one."""
    return (value,) if isinstance(value, str) else value


class Section(BaseModel):
    """A section of the study file: frozen, and unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not SMALLEST_INTEGER <= number <= LARGEST_INTEGER:
                raise ValueError("expected a number that fits 64 bits")
        return value


def _quantity(value: object, units: dict[str, int], example: str) -> int:
    # Decimal, because 1.001 * 1000 is not a whole number in binary floating point. YAML 1.1 reads `1e4` as a string.
    text = str(value).strip() if isinstance(value, (str, float)) or _is_integer(value) else ""
    match = re.fullmatch(r"([+-]?[0-9][0-9_]*(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?)\s*([a-z]*)", text.lower())
    if match is None or match[2] not in units:
        raise ValueError(f"expected a quantity such as {example}, saw {shorten(value)}")
    number = Decimal(match[1].replace("_", ""))
    # Before it is multiplied or made an integer: 1e999 has a thousand digits.
    if not SMALLEST_INTEGER <= number * units[match[2]] <= LARGEST_INTEGER:
        raise ValueError(f"expected a quantity that fits 63 bits, such as {example}, saw {shorten(value)}")
    result = number * units[match[2]]
    if result != result.to_integral_value():
        raise ValueError(f"expected a whole number such as {example}, saw {shorten(value)}")
    return int(result)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and SMALLEST_INTEGER <= value <= LARGEST_INTEGER


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


def format_eta(seconds: float) -> str:
    """Seconds in readable units: `42 s`, `7 min`, `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


Count = Annotated[int, BeforeValidator(parse_count)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Seconds = Annotated[int, BeforeValidator(parse_seconds)]


def check_name(value: str, longest: int = LONGEST_NAME) -> str:
    """Accept a name that can be part of a path on every system, of an MLflow run, and of an override.

    Raises:
        ValueError: If it has other characters than ASCII letters, digits, `.`, `_` and `-`, does not begin with a letter or
            digit, ends in a dot, is too long, or is the name of a device of Windows.
    """
    seen = ascii(value[:longest])  # other scripts have letters that look like ASCII
    if len(value) > longest:
        raise ValueError(f"a name has at most {longest} characters, saw {len(value)}: {seen}...")
    if not _NAME.fullmatch(value) or value.endswith("."):
        raise ValueError(
            "a name has only the letters a to z and A to Z, digits, `.`, `_` and `-`, begins with a letter or digit and does "
            f"not end in a dot, saw {seen}"
        )
    if _DEVICES.fullmatch(value):
        raise ValueError(f"Windows keeps this name for a device, so that no file or folder can have it, saw {seen}")
    return value


def check_task(value: str) -> str:
    """Accept the name of an lm-eval task: `check_name`, but longer, because some of its own have over 80 characters."""
    return check_name(value, LONGEST_TASK)


Name = Annotated[str, AfterValidator(check_name)]
"""The name of a study, model, source, arm or exam."""
TaskName = Annotated[str, AfterValidator(check_task)]
"""The name of an lm-eval task."""


def check_path(value: str) -> str:
    """Expand `~` in a path, in a glob, or in each link of an fsspec chain; a URL or a name on the hub is left alone.

    Raises:
        ValueError: If a local path is longer than a file system allows.
    """
    links = [os.path.expanduser(link) for link in value.split("::")]
    for link in links:
        if "://" in link:
            continue
        longest = max(len(os.fsencode(part)) for part in link.split("/"))
        if longest > _LONGEST_FILE_NAME or len(os.fsencode(link)) > _LONGEST_PATH:
            raise ValueError(
                f"a path has at most {_LONGEST_PATH} bytes and {_LONGEST_FILE_NAME} between slashes, saw {shorten(link)}"
            )
    return "::".join(links)


def check_folder(value: str) -> str:
    """Accept the path of a folder that this process can create, with `~` expanded.

    Raises:
        ValueError: If it is empty, a URL, or too long.
    """
    if not value.strip():
        raise ValueError(f"expected the path of a folder, saw {value!r}")
    if _SCHEME.match(value) or "::" in value:
        raise ValueError(f"expected the path of a folder on a disk of the node, such as /scratch, saw {shorten(value)}")
    return check_path(value)


def check_root(value: str) -> str:
    """Accept a folder that this process can create, or a prefix in the bucket of an object store.

    Raises:
        ValueError: If it is empty or too long, a URL of something else, or holds credentials.
    """
    if not value.strip():
        raise ValueError(f"expected the path of a folder, saw {value!r}")
    found = _SCHEME.match(value)
    if found is None and "::" not in value:
        return check_path(value)
    scheme, _, rest = value.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme.lower() == "file" and "::" not in value:
        return check_path(f"/{prefix}")
    if "@" in bucket or "?" in value or "#" in value:
        raise ValueError(
            "a root holds no credentials and no options: what it is called is stored and shown; set them where the store's "
            "own tools find them (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_ENDPOINT_URL), on every node, "
            f"and give {scheme}://BUCKET/PREFIX"
        )
    if scheme.lower() not in _STORES or "::" in value:
        raise ValueError(
            f"artifacts are written to a folder, or to a bucket ({', '.join(f'{one}://' for one in _STORES)}); give a path "
            f"such as /shared/study or s3://bucket/study, saw {shorten(value)}"
        )
    parts = prefix.rstrip("/").split("/")
    if not bucket or not all(parts) or {".", ".."} & set(parts):
        raise ValueError(
            f"expected a bucket and a prefix in it that is the study's own, such as s3://bucket/study, saw {shorten(value)}"
        )
    return f"{_STORES[scheme.lower()]}://{bucket}/{'/'.join(parts)}"


PathText = Annotated[str, AfterValidator(check_path)]
"""A path, a glob, an fsspec URL or a name on the hub; `~` is the user's home."""
FolderText = Annotated[str, AfterValidator(check_folder)]
"""The path of a folder to write to."""
RootText = Annotated[str, AfterValidator(check_root)]
"""The path of a folder to write to, or a prefix in a bucket."""
