"""Run verbs in this process and return their output."""

from __future__ import annotations

import os
import re
import select
import time

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


def read_until(terminal: int, pattern: str) -> str:
    """What a program shows in a terminal, up to a pattern."""
    seen, end = "", time.monotonic() + 60
    while not re.search(pattern, seen):
        if time.monotonic() > end:
            raise AssertionError(f"no {pattern} in: {seen}")
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                seen += os.read(terminal, 4096).decode(errors="replace").replace("\r", "")
            except OSError as error:  # the other end is closed
                raise AssertionError(f"no {pattern} in: {seen}") from error
    return seen
