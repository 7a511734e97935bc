"""Parameter and FLOP arithmetic by hand."""

from __future__ import annotations

import pytest

from cpt_ray.model.parameters import ModelShape, flops_per_token, model_shape
from tests.evaluate.tiny import build_model

SMOLLM2 = ModelShape(
    parameters=134_515_008, body_parameters=106_203_456, hidden_size=576, num_layers=30, num_heads=9, head_dim=64,
    vocabulary_size=49152, tied=True,
)  # fmt: skip


def test_flops_of_smollm2_at_2048_causal_tokens():
    # 6 * 134.5M + 12 * 30 * 9 * 64 * 1024: 1.019e9 in shared arithmetic of the field
    assert flops_per_token(SMOLLM2, 1024) == pytest.approx(1.0194e9, rel=1e-3)


def test_the_shape_of_a_folder_counts_tied_embeddings_once(tmp_path):
    model = build_model(200)
    model.save_pretrained(tmp_path)
    shape = model_shape(tmp_path)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.body_parameters == shape.parameters - 200 * 64
    assert (shape.tied, shape.num_heads, shape.head_dim) == (True, 4, 16)
