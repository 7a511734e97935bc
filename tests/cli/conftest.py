"""Studies for verbs: one only configured, one prepared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.tiny_study import TinyStudy, write_tiny_study


@pytest.fixture
def tiny(tmp_path: Path) -> TinyStudy:
    return write_tiny_study(tmp_path / "study", kind="local")


@pytest.fixture
def prepared(prepared_study: TinyStudy, tmp_path: Path) -> TinyStudy:
    return prepared_study.copy(tmp_path / "study")
