"""Findings as one table: level, what, found, and below it the fix; pure."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from cpt_ray.records import Finding

_WIDTH = 100
"""Of what was found; a fix is never broken, so that it can be pasted."""


def render_findings(findings: Sequence[Finding]) -> str:
    """The findings in their order, and their number by level."""
    width = max(len(one.what) for one in findings)
    lines = []
    for one in findings:
        first, *more = textwrap.wrap(one.found, _WIDTH, break_on_hyphens=False) or [""]
        lines.append(f"{one.level:4}  {one.what:{width}}  {first}")
        lines += [f"{'':4}  {'':{width}}  {line}" for line in more]
        if one.fix:
            lines.append(f"{'':4}  {'':{width}}  fix: {one.fix}")
    counts = Counter(str(one.level) for one in findings)
    return "\n".join([*lines, ", ".join(f"{counts[level]} {level}" for level in ("ok", "warn", "fail"))])
