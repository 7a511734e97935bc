"""Dropout: what a model's record says of it, and masks that only the seed and the row decide."""

from __future__ import annotations

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from cpt_ray.config.sections.models.adapter import LoraSection
from cpt_ray.model.layers.adapter import add_adapters
from cpt_ray.model.layers.dropout import describe_dropout, seed_dropout
from tests.evaluate.tiny import build_model

WHY = "masks by seed, position of a pass's first row, and rows per pass; none on attention weights"


def test_a_model_without_dropout_says_none_and_others_say_where():
    model = build_model(200)
    assert describe_dropout(model) is None
    add_adapters(model, LoraSection(rank=2, alpha=2, dropout=0.05, target_modules=("q_proj",)))
    assert describe_dropout(model) == f"0.05 in 2 layers; {WHY}"
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=16, embd_pdrop=0.2, attn_pdrop=0.0, resid_pdrop=0.1)
    # One after the embeddings; one each after attention and MLP.
    assert describe_dropout(GPT2LMHeadModel(config)) == f"0.1 in 2 layers, 0.2 in 1 layer; {WHY}"


def test_masks_depend_on_seed_and_row_and_not_on_what_was_drawn_before():
    layer, ones = nn.Dropout(0.5), torch.ones(64)

    def mask(seed, position):
        seed_dropout(seed, position)
        return layer(ones).tolist()

    first = mask(0, 7)
    torch.rand(3)
    assert mask(0, 7) == first
    assert mask(0, 8) != first
    assert mask(1, 7) != first
