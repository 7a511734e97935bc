"""A folder for a model hub: transformers loads it offline, and its card says what is known and what is not."""

from __future__ import annotations

import re

import pytest

from tests.cli.said import said
from tests.integration.finished import LARGE
from tests.integration.tiny_study import BUDGETS


@pytest.mark.ray
@pytest.mark.accept(practical=3)
def test_the_folder_of_a_run_loads_offline_and_its_card_has_scores_licenses_and_limits(
    finished_study, tmp_path, capsys, monkeypatch
):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    study, to = finished_study.study, tmp_path / "hub"
    text = said(capsys, "export", str(study.config), "--run", LARGE, "--to", str(to))
    assert f"export of {LARGE}: {to}" in text
    model, tokenizer = AutoModelForCausalLM.from_pretrained(to), AutoTokenizer.from_pretrained(to)
    export = AutoModelForCausalLM.from_pretrained(study.root / "exports" / LARGE)
    assert all(torch.equal(one, export.state_dict()[name]) for name, one in model.state_dict().items())
    assert model.generate(**tokenizer("Bada", return_tensors="pt"), max_new_tokens=2).shape[1] > 2

    card = (to / "README.md").read_text()
    assert card.startswith("---\nlicense: other\nlibrary_name: transformers\n")
    assert re.search(r"\| law \| bits_per_byte \| \d\.\d+", card)
    assert re.search(r"\| law \| bits per byte, against tiny-base \| -\d\.\d{4} \(8 units are too few", card)
    assert "| base model | none |" in card
    assert "| text law | unknown: the study file does not state it |" in card
    assert f"- {BUDGETS[1] // 1000}k tokens of legal on tiny: " in card
    assert "- One seed: intervals cover the evaluation items only" in card
    assert f"| budget (tokens) | {BUDGETS[1]} |" in card
    assert "  deepspeed: zero2_bf16.json" in card
    assert str(study.config.parent) not in card
    assert sorted(path.name for path in to.iterdir() if path.name.startswith(".")) == []


@pytest.mark.ray
def test_a_folder_that_is_not_empty_is_refused_unless_forced_and_keeps_what_else_is_in_it(finished_study, tmp_path, capsys):
    config, mine = str(finished_study.study.config), tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "README.md").write_text("old")
    text = said(capsys, "export", config, "--to", str(tmp_path), code=2)
    assert f"--to {tmp_path} is not empty" in text
    assert "fix: name another folder, or give --force" in text
    assert (tmp_path / "README.md").read_text() == "old"
    assert "would be copied" in said(capsys, "export", config, "--to", str(tmp_path), "--dry-run")
    assert LARGE in said(capsys, "export", config, "--to", str(tmp_path), "--force")
    assert mine.read_text() == "mine"
    assert (tmp_path / "README.md").read_text() != "old"
