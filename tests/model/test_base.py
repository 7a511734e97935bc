"""Base models in, exports out: the same weights, the same ids, and messages that say what to do."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt_ray.config.train import ModelConfig
from cpt_ray.errors import ConfigError
from cpt_ray.model.base import import_base, load_model, load_tokenizer, separator_of
from cpt_ray.model.export import export_model, model_card
from tests.evaluate.tiny import SEPARATOR, build_model, build_tokenizer


@pytest.fixture
def base(tmp_path):
    tokenizer = build_tokenizer()
    folder = tmp_path / "base"
    build_model(len(tokenizer)).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_is_imported_with_its_tokenizer(base, tmp_path):
    import_base(ModelConfig(name="m", base=str(base)), tmp_path / "out")
    first = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).state_dict()
    second = load_model(tmp_path / "out", precision="bf16").state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    text = "The licensee may 1234 €"
    assert load_tokenizer(tmp_path / "out")(text).input_ids == load_tokenizer(base)(text).input_ids


def test_a_base_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"models\.m\.base: cannot load") as error:
        import_base(ModelConfig(name="m", base=str(tmp_path / "nowhere")), tmp_path / "out")
    assert "safetensors" in error.value.fix
    with pytest.raises(ConfigError, match="no such GGUF file"):
        import_base(ModelConfig(name="m", base=str(tmp_path / "x.gguf")), tmp_path / "out")


def test_the_separator_is_the_tokenizers_own_or_a_token_it_knows():
    tokenizer = build_tokenizer()
    assert separator_of(ModelConfig(name="m", base="b"), tokenizer) == SEPARATOR
    with pytest.raises(ConfigError, match="does not know as one token") as error:
        separator_of(ModelConfig(name="m", base="b", separator="<|nope|>"), tokenizer)
    assert SEPARATOR in error.value.fix
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no end-of-text token"):
        separator_of(ModelConfig(name="m", base="b"), tokenizer)


def test_an_export_loads_and_generates(base, tmp_path):
    model = load_model(base, precision="bf16")
    state = {name: tensor + 0.01 for name, tensor in model.state_dict().items()}
    export_model(model, state, tokenizer=base, folder=tmp_path / "export", card=model_card({"name": "x", "tokens": 7}))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert torch.equal(loaded.state_dict()["model.norm.weight"], state["model.norm.weight"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "export")
    ids = tokenizer("The licensee", return_tensors="pt").input_ids
    assert loaded.generate(ids, max_new_tokens=3, do_sample=False).shape[1] == ids.shape[1] + 3
    assert "| tokens | 7 |" in (tmp_path / "export" / "README.md").read_text()
    assert not list(tmp_path.glob(".export*"))


def test_a_head_that_scales_its_logits_is_refused(base):
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "logit_scale": 1.0}))
    load_model(base, precision="bf16")
    (base / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": 30.0}))
    with pytest.raises(ConfigError, match="LlamaForCausalLM has final_logit_softcapping in its output head") as error:
        load_model(base, precision="bf16")
    assert "hidden states times the output embedding" in error.value.fix
