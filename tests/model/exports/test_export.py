"""Exports: they load with transformers alone, are complete or absent, and have the dtype of the state."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt_ray.model.base import load_model
from cpt_ray.model.exports.export import export_model, model_card
from cpt_ray.model.layers.fused import fuse_projections


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fused_model_exports_the_same_bytes(base, tmp_path, dtype):
    written = []
    for fuse in (False, True):
        model = load_model(base, precision="bf16")
        assert not fuse or "q_proj+k_proj+v_proj" in fuse_projections(model)
        state = {name: parameter.detach().to(dtype) for name, parameter in model.named_parameters()}
        folder = tmp_path / f"fused-{fuse}"
        export_model(model, state, tokenizer=base, folder=folder, card="")
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert "model.safetensors" in written[0]
    assert written[0] == written[1]


def test_a_large_export_is_cut_into_shards_that_load_as_one(base, tmp_path):
    model = load_model(base, precision="bf16")
    state = {name: tensor.float() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    export_model(model, state, tokenizer=base, folder=tmp_path / "export", card="", max_shard_size="100KB")
    assert len(list((tmp_path / "export").glob("model-*.safetensors"))) > 1
    assert (tmp_path / "export" / "model.safetensors.index.json").is_file()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert loaded.dtype == torch.float32  # the dtype of the state, not of the model in memory
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.parametrize("moment", ["copy_tokenizer", "os.replace"])
def test_a_kill_during_an_export_leaves_nothing_that_looks_finished(base, tmp_path, monkeypatch, moment):
    model, folder = load_model(base, precision="bf16"), tmp_path / "export"

    def export():
        export_model(model, model.state_dict(), tokenizer=base, folder=folder, card="card")

    with monkeypatch.context() as patch:
        patch.setattr(f"cpt_ray.model.exports.export.{moment}", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        child = multiprocessing.get_context("fork").Process(target=export)
        child.start()
        child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert not folder.exists()
    assert (tmp_path / ".export.tmp" / "model.safetensors").is_file()  # the export had started
    export()
    assert (folder / "README.md").read_text() == "card"
    assert torch.equal(AutoModelForCausalLM.from_pretrained(folder).lm_head.weight, model.lm_head.weight)
    assert not (tmp_path / ".export.tmp").exists()
