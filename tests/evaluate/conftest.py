"""A tiny export and held-out sets, built once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpt_ray.model.base import load_model, load_tokenizer
from cpt_ray.records import HeldOutRecord, HeldOutSet, Made
from tests.evaluate.tiny import build_model, build_tokenizer, make_text


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer()
    build_model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


@pytest.fixture(scope="module")
def model(tiny_folder):
    return load_model(tiny_folder, precision="fp32").cpu()


@pytest.fixture(scope="module")
def reference(tokenizer):
    """lm-eval's own model over the same weights."""
    from lm_eval.models.huggingface import HFLM

    plain = build_model(len(tokenizer))
    assert plain.config._attn_implementation == "sdpa"
    return HFLM(pretrained=plain, tokenizer=tokenizer, batch_size=4, max_length=64, prefix_token_id=0)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Made[HeldOutRecord]:
    folder = tmp_path_factory.mktemp("held_out")
    sets = []
    for source, role, part, first in (
        ("law", "domain", "test", 0),
        ("law", "domain", "validation", 20),
        ("news", "general", "test", 40),
    ):
        texts = {f"{source}_{seed}": make_text(seed, 1 + seed % 6) for seed in range(first, first + 8)}
        path = folder / f"{source}-{part}.jsonl"
        path.write_text(
            "".join(json.dumps({"identity": f"made/{key}", "id": key, "text": text}) + "\n" for key, text in texts.items())
        )
        sets.append(
            HeldOutSet(
                source=source,
                role=role,
                part=part,
                path=path.name,
                documents=len(texts),
                bytes=sum(len(text.encode()) for text in texts.values()),
            )
        )
    return Made(folder, HeldOutRecord(sets=tuple(sets), reports=(), task_pids={}, shares={}))
