"""Run verbs in this process and return their output."""

from __future__ import annotations

import pytest

from cpt_ray.cli.main import main


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run a verb and return its stdout, or its stderr if it is refused."""
    capsys.readouterr()
    assert main(list(arguments)) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def would(text: str, state: str) -> set[str]:
    """Artifacts that a dry run lists under `make` or `reuse`."""
    lines = [line.split() for line in text.splitlines() if line.startswith("  ")]
    return {name.rsplit("-", 1)[0] for said_state, name in lines if said_state == state}
