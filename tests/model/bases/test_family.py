"""Whether two models are of one family: both sides of each refusal."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.family import require_same_tensors, require_same_tokenizer

KEY = "merges.chat.instruction_residual.instruct"


@pytest.fixture
def other(whole_base: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole_base, tmp_path / "other")
    return tmp_path / "other"


def change_tokenizer(folder: Path, change) -> None:
    tree = json.loads((folder / "tokenizer.json").read_text())
    change(tree)
    (folder / "tokenizer.json").write_text(json.dumps(tree))


def test_a_copy_is_of_the_family_and_so_is_one_with_a_chat_template(whole_base, other):
    (other / "chat_template.jinja").write_text("x")
    require_same_tensors(whole_base, other, key=KEY)
    require_same_tokenizer(whole_base, other, key=KEY)


@pytest.mark.accept(grid=5)
def test_another_shape_is_refused_with_both_shapes(whole_base, other):
    tensors = load_file(other / "model.safetensors")
    rows, columns = tensors["model.embed_tokens.weight"].shape
    tensors["model.embed_tokens.weight"] = torch.zeros(rows + 8, columns)
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ConfigError, match=rf"^{re.escape(KEY)}: model\.embed_tokens\.weight is {rows + 8} x {columns} in"
    ) as error:
        require_same_tensors(whole_base, other, key=KEY)
    assert f"but {rows} x {columns} in {whole_base}" in error.value.problem
    assert "only models of one family and size can be merged" in error.value.fix


def test_a_copy_of_a_tied_weight_matters_only_after_an_import(whole_base, other):
    tensors = load_file(other / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    require_same_tensors(whole_base, other, key=KEY, whole=False)
    with pytest.raises(ConfigError, match=r"other has the tensor lm_head\.weight, which .* lacks"):
        require_same_tensors(whole_base, other, key=KEY)


@pytest.mark.accept(grid=5)
def test_other_ids_are_refused_with_a_token(whole_base, other):
    def swap(tree):
        first, second = list(tree["model"]["vocab"])[20:22]
        ids = tree["model"]["vocab"]
        ids[first], ids[second] = ids[second], ids[first]

    change_tokenizer(other, swap)
    with pytest.raises(ConfigError, match=r"2 tokens have other ids: '.*' is \d+ in .*other and \d+ in") as error:
        require_same_tokenizer(whole_base, other, key=KEY)
    assert error.value.fix == "give an instruct model of the same family, with the same tokenizer"


def test_other_rules_of_splitting_are_refused(whole_base, other):
    change_tokenizer(other, lambda tree: tree["model"]["merges"].reverse())
    with pytest.raises(ConfigError, match="splits text by other rules than that of"):
        require_same_tokenizer(whole_base, other, key=KEY)
