"""Rewrites the table of `benchmarks/README.md` from `benchmarks/results`: every claim that has a target, met or not.

    python benchmarks/summary.py

`tests/benchmarks/test_summary.py` fails where the table and the results differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from record import RESULTS, replace_between

README = Path(__file__).with_name("README.md")
MARKS = ("<!-- results: begin -->", "<!-- results: end -->")


def table(folder: Path = RESULTS) -> str:
    """The claims of all results files, a row each, as a Markdown table."""
    claims = [claim for path in sorted(folder.glob("*.json")) for claim in json.loads(path.read_text(encoding="utf-8"))]
    rows = [_row(claim) for claim in sorted(claims, key=lambda claim: str(claim["id"])) if claim["target"]]
    return "\n".join(["| claim | measured | target | | what, against what | commit |", "|---|---|---|---|---|---|", *rows])


def _row(claim: Mapping[str, Any]) -> str:
    met = "met" if claim["met"] else "**missed**"
    against = f"; against {claim['compared_with']}" if claim["compared_with"] else ""
    measured = f"{claim['value']:.4g} {claim['unit']}"
    return f"| `{claim['id']}` | {measured} | {claim['target']} | {met} | {claim['claim']}{against} | {claim['commit']} |"


def rewritten(text: str) -> str:
    """A document with the table between its marks made anew."""
    return replace_between(text, MARKS, table())


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
