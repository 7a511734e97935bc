"""A tiny study that nobody has run, and its graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.tiny_study import TinyStudy, write_tiny_study


@pytest.fixture
def tiny(tmp_path: Path) -> TinyStudy:
    """The inputs and the file of a study of one process."""
    return write_tiny_study(tmp_path / "study", kind="local")
