"""The `axes` section: keys of the study file that a grid sweeps.

In: YAML. Out: frozen sections; `config/cells.py` multiplies them out. Guarantee: every value has a name that a person can read,
and no two values of an axis are equal.
"""

import itertools
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from cpt_ray.config.plain_text import shorten
from cpt_ray.config.values import Name, Section, check_name

_FIXED = {
    "study": "is the study's own",
    "axes": "is the grid itself",
    "runtime": "says where a study runs, which changes no result",
    "tracking": "says where numbers are tracked, which changes no result",
    "compare": "is how all cells are judged",
}
_NAMED = ("models", "sources", "classifiers")


def parse_values(value: object) -> Any:
    """Read `[0.5, 1.0]`, whose names are the values as written, or `{half: .., most: ..}`.

    Raises:
        ValueError: If it is neither, or a value of a list can not be a name.
    """
    if not isinstance(value, list):
        return value
    named: dict[str, object] = {}
    for one in value:
        text = str(one).lower() if one is None or isinstance(one, bool) else str(one)
        try:
            name = check_name(text) if isinstance(one, (str, int, float)) or one is None else ""
        except ValueError:
            name = ""
        if not name:
            raise ValueError(f"value {shorten(one)} can not be a name; give each value one: {{half: .., most: ..}}")
        if name in named:
            raise ValueError(f"value {shorten(one)} is there twice; remove one")
        named[name] = one
    return named


class AxisConfig(Section):
    """One axis of a grid. The study has a cell for each combination of the values of all axes."""

    key: str | None = Field(
        default=None,
        description="the key that the axis sets, as on the command line: `train.learning_rate_factor`, `arms.legal.mix`; "
        "without it, each value is a mapping of keys to values, so that one axis lists explicit cells",
    )
    values: Annotated[dict[Name, Any], BeforeValidator(parse_values)] = Field(
        min_length=1, description="the values, as a list of plain values or with a name each"
    )

    @model_validator(mode="after")
    def _sweepable(self) -> "AxisConfig":
        for name, changes in self.changes().items():
            if not isinstance(changes, dict) or not changes:
                raise ValueError(f"without key, value {name} must be a mapping of keys to values, saw {shorten(changes)}")
            for key in changes:
                _check_key(str(key))
        for (name, one), (other_name, other) in itertools.combinations(self.values.items(), 2):
            if one == other and type(one) is type(other):
                raise ValueError(f"values {name} and {other_name} are equal; remove one")
        return self

    def changes(self) -> dict[str, Any]:
        """By value name, the keys that it sets and their values."""
        return self.values if self.key is None else {name: {self.key: value} for name, value in self.values.items()}


def _check_key(key: str) -> None:
    parts = key.split(".")
    if len(parts) < 2 or not all(parts):
        raise ValueError(f"key {shorten(key)} does not have the form section.key, e.g. train.learning_rate_factor")
    if parts[0] in _FIXED:
        raise ValueError(f"key {shorten(key)} can not be swept: {parts[0]} {_FIXED[parts[0]]}; set it for the whole study")
    if parts[0] in _NAMED and parts[-1] == "name":
        raise ValueError(f"key {shorten(key)} can not be swept: a name is an identity; sweep another key of that entry")
