"""Rewrite the table in `benchmarks/README.md` from `benchmarks/results`: every claim with a target, met or not.

    python -m benchmarks.measure.summary

`tests/benchmarks/measure/test_summary.py` fails if the table and the results differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure.record import RESULTS, replace_between

README = Path(__file__).parents[1] / "README.md"
MARKS = ("<!-- results: begin -->", "<!-- results: end -->")


def table(folder: Path = RESULTS) -> str:
    """The claims of all results files as a Markdown table, one row each."""
    claims = [claim for path in sorted(folder.glob("*.json")) for claim in json.loads(path.read_text(encoding="utf-8"))]
    claims.sort(key=lambda claim: (str(claim["id"]), str(claim["processor"])))
    processors = list(dict.fromkeys(sorted(str(claim["processor"]) for claim in claims)))
    rows = [_row(claim, processors) for claim in claims if claim["target"]]
    header = ["| claim | on | measured | target | | what, against what | commit |", "|---|---|---|---|---|---|---|"]
    legend = [f"({letter}) {processor}" for letter, processor in zip("abcdefgh", processors, strict=False)]
    return "\n".join([*header, *rows, "", "Processors: " + "; ".join(legend) + "."])


def _row(claim: Mapping[str, Any], processors: Sequence[str]) -> str:
    met = {"missed": "**missed**"}.get(claim["judgement"], claim["judgement"])
    on = "abcdefgh"[processors.index(str(claim["processor"]))]
    against = f"; against {claim['compared_with']}" if claim["compared_with"] else ""
    measured = f"{claim['value']:.4g} {claim['unit']}"
    return (
        f"| `{claim['id']}` | {on} | {measured} | {claim['target']} | {met} | {claim['claim']}{against} | {claim['commit']} |"
    )


def rewritten(text: str) -> str:
    """The document with the table between its marks rewritten."""
    return replace_between(text, MARKS, table())


def write() -> None:
    """Rewrite the document."""
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
