"""Base models: an import keeps the weights and the ids, and messages say what to do."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.errors import ConfigError
from cpt_ray.model.base import import_base, load_model, load_tokenizer
from cpt_ray.records import ImportedModel
from tests.evaluate.tiny import SEPARATOR


def test_a_folder_is_imported_with_its_tokenizer(base, tmp_path):
    import_base(ModelConfig(name="m", base=str(base)), tmp_path / "out")
    first = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).state_dict()
    second = load_model(tmp_path / "out", precision="bf16").state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    text = "The licensee may 1234 €"
    assert load_tokenizer(tmp_path / "out")(text).input_ids == load_tokenizer(base)(text).input_ids
    described = ImportedModel.of(tmp_path / "out")
    assert (described.architecture, described.end_of_text) == ("LlamaForCausalLM", SEPARATOR)


def test_a_base_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"models\.m\.base: cannot load") as error:
        import_base(ModelConfig(name="m", base=str(tmp_path / "nowhere")), tmp_path / "out")
    assert "safetensors" in error.value.fix
    with pytest.raises(ConfigError, match="no such GGUF file"):
        import_base(ModelConfig(name="m", base=str(tmp_path / "x.gguf")), tmp_path / "out")


def test_a_base_that_lacks_a_weight_is_refused_and_not_filled_with_random_numbers(base, tmp_path):
    weights = load_file(base / "model.safetensors")
    lost = "model.layers.1.mlp.up_proj.weight"
    save_file({name: t for name, t in weights.items() if name != lost}, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"lack 1 of the model's weights, including {re.escape(lost)}"):
        import_base(ModelConfig(name="m", base=str(base)), tmp_path / "out")
    (base / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ConfigError, match=r"models\.m\.base: .*model\.safetensors \(3 bytes\) is not a whole safetensors file"):
        import_base(ModelConfig(name="m", base=str(base)), tmp_path / "out")


def test_code_that_comes_with_a_model_runs_only_when_asked(base, tmp_path):
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}
    (base / "config.json").write_text(json.dumps(config))
    (base / "own.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    with pytest.raises(ConfigError, match=r"models\.m\.trust_remote_code is false") as error:
        import_base(ModelConfig(name="m", base=str(base)), tmp_path / "out")
    assert "with your permissions" in error.value.fix
    assert not (tmp_path / "ran").exists()
    import_base(ModelConfig(name="m", base=str(base), trust_remote_code=True), tmp_path / "out")
    assert (tmp_path / "ran").exists()
    model = load_model(tmp_path / "out", precision="fp32", trust_remote_code=True)
    assert type(model).__name__ == "OwnModel"


def test_a_base_saved_as_its_body_alone_is_imported_whole(base, tmp_path):
    weights = load_file(base / "model.safetensors")
    body = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    save_file(body, base / "model.safetensors", metadata={"format": "pt"})
    import_base(ModelConfig(name="m", base=str(base)), tmp_path / "out")
    imported = load_file(tmp_path / "out" / "model.safetensors")
    assert imported.keys() == weights.keys()
    assert all(torch.equal(imported[name], tensor.bfloat16()) for name, tensor in weights.items())
