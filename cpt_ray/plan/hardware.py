"""Hardware profiles: what a GPU or a CPU core can do, what share of it training achieves, and what an hour costs.

In: the name of a profile in `profiles/`, or the path of an own file of the same form. Out: a `HardwareProfile`. No profile
here has a price: prices are inputs, with a date, because any that is printed here would be wrong next month.
"""

from __future__ import annotations

import datetime
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from cpt_ray.config.plain_text import read_text_file
from cpt_ray.config.values import Bytes, Section
from cpt_ray.config.yaml_text import parse_yaml
from cpt_ray.errors import ConfigError
from cpt_ray.records import CpuProducts

PROFILES = Path(__file__).parent / "profiles"


def _parse_date(value: object) -> str:
    try:
        return datetime.date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise ValueError(f"expected a date such as 2026-11-29, saw {value!r}") from None


class Price(Section):
    """What a device costs, and when that was so."""

    per_hour: float = Field(gt=0, description="price of a device for an hour")
    currency: str = Field(min_length=1, max_length=8, description="currency, such as USD")
    date: Annotated[str, BeforeValidator(_parse_date)] = Field(description="day on which the price was read")


class HardwareProfile(Section):
    """A kind of device, as a plan needs to know it."""

    name: str = Field(description="short name")
    description: str = Field(description="what it is")
    per: Literal["card", "core"] = Field(default="card", description="what the figures are of: a GPU, or a core of a CPU")
    cards: tuple[str, ...] = Field(default=(), description="parts of the names under which drivers show it")
    peak_bf16_flops: float = Field(gt=0, description="peak of dense bf16 matrix products, FLOP/s, from the data sheet")
    fp32_share: float = Field(
        default=0.5, gt=0, le=1, description="peak in fp32 (on a GPU in TF32), as a share of that in bf16"
    )
    memory: Bytes | None = Field(default=None, ge=1, description="usable memory in bytes; default: that of this machine")
    memory_bandwidth: float = Field(gt=0, description="bytes per second between memory and processor")
    achieved_share: float = Field(gt=0, le=1, description="share of the peak that training achieves (MFU)")
    achieved_source: str = Field(description="where that share is from")
    recompute_time: float = Field(default=1.15, ge=1, description="factor on time of train.gradient_checkpointing")
    price: Price | None = Field(default=None, description="price of one, if it is to be in a plan")

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.per == "card"


def profile_names() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_cpu(products: CpuProducts) -> HardwareProfile:
    """The profile of a core of a CPU, by how it multiplies."""
    return load_hardware("cpu" if products == "bf16" else f"cpu-{products}")


def load_hardware(wanted: str) -> HardwareProfile:
    """Read a profile by its name, or by the path of a file.

    Raises:
        ConfigError: If there is none of that name, or the file is no profile.
    """
    path = Path(wanted).expanduser()
    if wanted in profile_names():
        path = PROFILES / f"{wanted}.yaml"
    elif path.suffix not in (".yaml", ".yml"):
        near = difflib.get_close_matches(wanted.lower(), profile_names(), n=1, cutoff=0.0)
        raise ConfigError(
            f"--hardware {wanted}: there is no such profile; the nearest is {near[0]}",
            fix=f"use one of {', '.join(profile_names())}, or the path of a YAML file of your own (docs/plan.md)",
        )
    return parse_hardware(read_text_file(path, kind="hardware profile", fix=_NO_FILE), str(path))


def parse_hardware(text: str, place: str) -> HardwareProfile:
    """Read a profile from the text of a YAML file.

    Raises:
        ConfigError: Naming the first key that is wrong.
    """
    tree = parse_yaml(text, place)
    if not isinstance(tree, dict):
        raise ConfigError(f"{place}: expected keys and values, as in a hardware profile", fix=_NO_FILE)
    try:
        return HardwareProfile.model_validate(tree)
    except ValidationError as error:
        # A misspelled key is both missing and unknown; only the second error names what was written.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise _wrong_key(first, place) from None


def find_profile(card: str) -> HardwareProfile | None:
    """The profile of a card by the name that its driver gives it; None if none matches."""
    for name in profile_names():
        profile = load_hardware(name)
        if any(re.search(rf"\b{re.escape(part)}\b", card) for part in profile.cards):
            return profile
    return None


def parse_price(per_hour: str, currency: str) -> Price:
    """The price that a command names, of today.

    Raises:
        ConfigError: If it is not a positive number.
    """
    try:
        return Price(per_hour=float(per_hour), currency=currency, date=datetime.date.today().isoformat())
    except ValueError:
        raise ConfigError(
            f"--price {per_hour} --currency {currency}: not a price of an hour",
            fix="give a number above 0 and a currency of at most 8 letters, such as --price 2.5 --currency USD",
        ) from None


_NO_FILE = "start from a copy of cpt_ray/plan/profiles/h100.yaml; docs/plan.md describes its keys"


def _wrong_key(found: Any, place: str) -> ConfigError:
    key = ".".join(map(str, found["loc"]))
    if found["type"] == "extra_forbidden":
        known = [*HardwareProfile.model_fields, *(f"price.{name}" for name in Price.model_fields)]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        fix = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
        return ConfigError(f"{place}: unknown key {key}", fix=fix)
    if found["type"] == "missing":
        return ConfigError(f"{place}: missing key {key}", fix=f"add {key}; docs/plan.md describes it")
    said = found["msg"].removeprefix("Value error, ")
    seen = "" if ", saw " in said else f", saw {str(found['input'])[:60]!r}"
    return ConfigError(f"{place}: {key}: {said}{seen}", fix=f"change {key}; docs/plan.md describes it")
