"""Bases to damage: a folder as transformers saves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluate.tiny import build_model, build_tokenizer


@pytest.fixture(scope="session")
def whole_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that tests copy."""
    tokenizer, folder = build_tokenizer(), tmp_path_factory.mktemp("base")
    build_model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
