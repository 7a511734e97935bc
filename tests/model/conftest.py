"""A tiny base model in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.evaluate.tiny import build_model, build_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tokenizer = build_tokenizer()
    folder = tmp_path / "base"
    build_model(len(tokenizer)).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
