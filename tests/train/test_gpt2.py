"""A model with learned positions trains on rows as long as it has positions, and its documents do not see each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cpt_ray.edges.storage import write_atomic
from cpt_ray.model.shape import describe_model
from cpt_ray.records import ImportedModel, RunRecord
from tests.evaluate.tiny import build_tokenizer
from tests.train.tiny_run import T, make_shards, run

pytestmark = pytest.mark.accept(inputs=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A run of a GPT-2 with exactly the positions of a row."""
    root, tokenizer = tmp_path_factory.mktemp("gpt2"), build_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=T, vocab_size=len(tokenizer), initializer_range=0.2)
    model, folder = GPT2LMHeadModel(config), root / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_atomic(folder / ImportedModel.FILE, describe_model(model, tokenizer).to_json())
    make_shards(root)
    return run(root, "legal-1000", "run")


def test_gpt2_trains_on_rows_as_long_as_its_positions(trained):
    assert trained.tokens_seen >= 1000
    assert trained.training.last.self_test.passed
    assert trained.training.last.self_test.masked_difference < 1e-4 < trained.training.last.self_test.unmasked_difference


def test_its_export_ends_on_the_separator_that_training_wrote(trained):
    export = Path(str(trained.export_path))
    assert json.loads((export / "generation_config.json").read_text())["eos_token_id"] == 0
    assert json.loads((export / "config.json").read_text())["n_positions"] == T
