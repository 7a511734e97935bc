"""What `cpt-ray doctor` finds of a machine; crosses from node to driver."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """The result of one check."""

    what: str
    """What was looked at."""
    found: str
    level: Literal["ok", "warn", "fail"] = "ok"
    """`warn`: something will be slower, or may fail later; `fail`: something cannot work."""
    fix: str = ""
    """To paste, or what to do; empty if all is well."""
