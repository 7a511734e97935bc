"""Base models in, exports out: the same weights, the same ids, and messages that say what to do."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.errors import ConfigError
from cpt_ray.model.base import import_base, load_model, load_tokenizer
from cpt_ray.model.export import export_model, model_card
from cpt_ray.records import ImportedModel
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
    described = ImportedModel.of(tmp_path / "out")
    assert (described.architecture, described.end_of_text) == ("LlamaForCausalLM", SEPARATOR)


def test_a_base_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"models\.m\.base: cannot load") as error:
        import_base(ModelConfig(name="m", base=str(tmp_path / "nowhere")), tmp_path / "out")
    assert "safetensors" in error.value.fix
    with pytest.raises(ConfigError, match="no such GGUF file"):
        import_base(ModelConfig(name="m", base=str(tmp_path / "x.gguf")), tmp_path / "out")


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
    assert (tmp_path / "export" / "generation_config.json").is_file()


def test_a_large_export_is_cut_into_shards_that_load_as_one(base, tmp_path):
    model = load_model(base, precision="bf16")
    state = {name: tensor.float() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    export_model(model, state, tokenizer=base, folder=tmp_path / "export", card="", max_shard_size="100KB")
    assert len(list((tmp_path / "export").glob("model-*.safetensors"))) > 1
    assert (tmp_path / "export" / "model.safetensors.index.json").is_file()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert loaded.dtype == torch.float32  # the type of the state, not of the model in memory
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.parametrize("moment", ["copy_tokenizer", "os.replace"])
def test_a_kill_during_an_export_leaves_nothing_that_looks_finished(base, tmp_path, monkeypatch, moment):
    model, folder = load_model(base, precision="bf16"), tmp_path / "export"

    def export():
        export_model(model, model.state_dict(), tokenizer=base, folder=folder, card="card")

    with monkeypatch.context() as patch:
        patch.setattr(f"cpt_ray.model.export.{moment}", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        child = multiprocessing.get_context("fork").Process(target=export)
        child.start()
        child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert not folder.exists()
    assert (tmp_path / ".export.tmp" / "model.safetensors").is_file()  # it really was under way
    export()
    assert (folder / "README.md").read_text() == "card"
    assert torch.equal(AutoModelForCausalLM.from_pretrained(folder).lm_head.weight, model.lm_head.weight)
    assert not (tmp_path / ".export.tmp").exists()


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
    assert "with your rights" in error.value.fix
    assert not (tmp_path / "ran").exists()
    import_base(ModelConfig(name="m", base=str(base), trust_remote_code=True), tmp_path / "out")
    assert (tmp_path / "ran").exists()
    model = load_model(tmp_path / "out", precision="fp32", trust_remote_code=True)
    assert type(model).__name__ == "OwnModel"
