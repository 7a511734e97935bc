"""The report of a study as a value: its path, and how to look at it."""

from __future__ import annotations

import html
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cpt_ray.edges.store import fresh
from cpt_ray.study.findings.outcome import REPORT

_HEIGHT_PIXELS = 800


@dataclass(frozen=True)
class Report:
    """A report that was written: `report.path`, `report.show()`; the last value of a notebook's cell is shown in it."""

    path: Path

    @classmethod
    def of(cls, root: Path) -> Self:
        """The report of a study's root, on this machine."""
        return cls(fresh(root / REPORT))

    def show(self) -> None:
        """Show it: in a notebook below the cell, else in the browser."""
        # Only in a kernel is IPython both imported and at work; nothing here needs it.
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None else None
        if shell is not None and hasattr(shell, "kernel"):
            sys.modules["IPython.display"].display(self)
        else:
            webbrowser.open(self.path.resolve().as_uri())

    def _repr_html_(self) -> str:
        # In a frame, so that neither the notebook's styles nor the report's reach the other.
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        style = f"width: 100%; height: {_HEIGHT_PIXELS}px; border: 1px solid #ccc"
        return f'<iframe srcdoc="{page}" style="{style}" title="{html.escape(self.path.name)}"></iframe>'
