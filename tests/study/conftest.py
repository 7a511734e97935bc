"""A tiny study that has never been run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.tiny_study import TinyStudy, write_tiny_study


@pytest.fixture
def tiny(tmp_path: Path) -> TinyStudy:
    """The inputs and study file of a single-process study."""
    return write_tiny_study(tmp_path / "study", kind="local")
