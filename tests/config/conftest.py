"""A small valid study tree, for tests that break one thing in it."""

import copy

import pytest
import yaml

_TREE = {
    "study": {"name": "small", "root": "runs/small"},
    "models": [{"name": "tiny", "base": "somewhere/tiny"}],
    "sources": [
        {"name": "law", "role": "domain", "path": "law/*.jsonl", "format": "jsonl"},
        {"name": "news", "role": "general", "path": ["news/*.jsonl"], "format": "jsonl"},
    ],
    "arms": {
        "legal": {"role": "domain", "mix": {"law": 0.9, "news": 0.1}},
        "control": {"role": "control", "mix": {"news": 1.0}},
    },
    "train": {
        "budgets": ["10k", "20k"],
        "learning_rate": 1e-4,
        "global_batch_size": 4,
        "deepspeed": "ds_configs/zero2_bf16.json",
    },
}


@pytest.fixture
def tree():
    return copy.deepcopy(_TREE)


@pytest.fixture
def study_file(tree, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path
