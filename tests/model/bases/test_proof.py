"""A base is whole and trainable before anything is prepared, or it is refused by name; torch is not asked."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.proof import prove_base
from tests.model.bases.damage import INDEX, POINTER, WEIGHTS, add, change_index, change_json, copy, drop, prefix, rewrite, shard

pytestmark = pytest.mark.accept(inputs=1)

NAME = "model.layers.1.mlp.up_proj.weight"


def prove(folder, **model):
    return prove_base(ModelConfig(name="m", base=str(folder), **model), {"prepare.pack.sequence_length": 64})


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def instead(*names):
    """Empty the folder and leave files of these names."""

    def change(folder):
        for path in folder.iterdir():
            path.unlink()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")

    return change


def cut(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-100])


def lengthen(folder):
    with (folder / WEIGHTS).open("ab") as stream:
        stream.write(b"more")


def sharded(change):
    def both(folder):
        shard(folder)
        change(folder)

    return both


def unlink(name):
    return lambda folder: (folder / name).unlink()


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
DAMAGES = {
    "prefixed by torch.compile": (lambda f: prefix(f, "_orig_mod."), r"lack 20 .* and hold 20 .*_orig_mod\.", "'_orig_mod.'"),
    "prefixed by data parallelism": (
        lambda f: prefix(f, "module."),
        r"hold 20 tensors that the model does not have",
        "'module.'",
    ),
    "prefixed by an adapter": (lambda f: prefix(f, "base_model.model."), r"base_model\.model\.model\.embed", "wrapper"),
    "prefixed by FSDP": (lambda f: prefix(f, "_fsdp_wrapped_module."), r"hold 20", "_fsdp_wrapped_module."),
    "a tensor is missing": (lambda f: drop(f, NAME), rf"lack 1 of the model's weights, including {NAME}", "complete"),
    "a layer too many": (lambda f: change_json(f, "config.json", num_hidden_layers=1), r"hold 9 tensors", "complete"),
    "a layer too few": (lambda f: change_json(f, "config.json", num_hidden_layers=3), r"lack 9 of", "complete"),
    "an untied head that is not there": (lambda f: change_json(f, "config.json", tie_word_embeddings=False), r"lm_head", ""),
    "an unknown tensor": (lambda f: add(f, "model.extra.weight"), r"hold 1 tensors .* model\.extra\.weight", ""),
    "pointer for weights": (write(WEIGHTS, POINTER), r"model\.safetensors is a Git LFS pointer", "git lfs pull"),
    "pointer for the tokenizer": (write("tokenizer.json", POINTER), r"tokenizer\.json is a Git LFS pointer", "git lfs pull"),
    "pointer for the configuration": (write("config.json", POINTER), r"config\.json is a Git LFS pointer", "git lfs pull"),
    "weights end early": (cut, r"model\.safetensors ends early: \d+ bytes, but its header says \d+", "download"),
    "weights with a tail": (lengthen, r"is longer than its header says", "download"),
    "weights of zeros": (lambda f: (f / WEIGHTS).write_bytes(bytes(500)), r"does not begin with a safetensors header", ""),
    "an empty weight file": (lambda f: (f / WEIGHTS).write_bytes(b""), r"\(0 bytes\) is not a whole safetensors file", ""),
    "configuration is no JSON": (write("config.json", "{"), r"config\.json is not JSON", ""),
    "configuration is a list": (write("config.json", "[]"), r"config\.json is not a JSON object", ""),
    "a shard is missing": (sharded(unlink(SECOND)), rf"{SECOND}: No such file", "download"),
    "a shard is a pointer": (sharded(write(SECOND, POINTER)), rf"{SECOND} is a Git LFS pointer", ""),
    "a listed tensor in no shard": (sharded(lambda f: change_index(f, ghost=FIRST)), r"holds ghost, but it is in none", ""),
    "a tensor in the other shard": (
        sharded(lambda f: change_index(f, **{"model.norm.weight": FIRST})),
        r"it is in model-0000\d",
        "",
    ),
    "a tensor that the index omits": (sharded(lambda f: change_index(f, **{NAME: None})), r"does not list", ""),
    "an index that leaves the folder": (sharded(lambda f: change_index(f, x="../x.safetensors")), r"not in the folder", ""),
    "shards without an index": (sharded(unlink(INDEX)), r"but neither model\.safetensors nor", "index"),
    "a pickle": (instead("config.json", "pytorch_model.bin"), r"weights as pytorch_model\.bin: a pickle", "save_pretrained"),
    "nothing": (instead(), r"is empty", "give a folder"),
    "no configuration": (unlink("config.json"), r"has no config\.json", ""),
    "no weights": (unlink(WEIGHTS), r"has no weights", ""),
    "a cache of the hub": (instead("snapshots/abc/config.json"), r"hub's cache", "snapshots/abc"),
    "the folder above": (instead("inner/config.json"), r"has no config\.json, but inner in it does", "inner"),
    "a DeepSpeed checkpoint": (instead("latest", "zero_to_fp32.py"), r"checkpoint of a training run", "zero_to_fp32.py"),
    "a run of this tool": (instead("checkpoints/x/manifest.json", "export/config.json"), r"checkpoint", "export"),
    "a trainer's optimizer": (instead("config.json", "optimizer.pt"), r"checkpoint of a training run", ""),
    "quantized by configuration": (
        lambda f: change_json(f, "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        r"is quantized \(bitsandbytes\)",
        "full-precision",
    ),
    "quantized by GPTQ": (
        lambda f: change_json(f, "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"\(gptq\)",
        "full",
    ),
    "quantized by AWQ": (
        lambda f: change_json(f, "config.json", quantization_config={"quant_method": "awq"}),
        r"\(awq\)",
        "full-precision",
    ),
    "packed weights, undeclared": (lambda f: add(f, "model.x.qweight"), r"is quantized: tensor model\.x\.qweight", ""),
    "bytes for weights": (lambda f: add(f, "model.x.weight", torch.int8), r"is quantized: tensor .* has type I8", ""),
    "fp8 weights": (lambda f: add(f, "model.x.weight", torch.float8_e4m3fn), r"has type F8_E4M3", ""),
    "an adapter": (
        instead("adapter_config.json", "adapter_model.safetensors"),
        r"is an adapter of some base",
        "merge_and_unload",
    ),
    "a classifier": (
        lambda f: change_json(f, "config.json", architectures=["LlamaForSequenceClassification"]),
        r"LlamaForSequenceClassification, not a causal language model",
        "ForCausalLM",
    ),
    "a reward head": (lambda f: add(f, "v_head.summary.weight"), r"another head than a language model's", ""),
    "an encoder": (
        lambda f: change_json(f, "config.json", model_type="bert", architectures=["BertForMaskedLM"]),
        r"BertForMaskedLM",
        "",
    ),
    "a seq2seq model": (
        lambda f: change_json(f, "config.json", model_type="t5", architectures=["T5Model"]),
        r"model with an encoder \(t5\)",
        "decoder-only",
    ),
    "a vocabulary too small": (
        lambda f: change_json(f, "config.json", vocab_size=300),
        r"the tokenizer has ids up to 399, but the model's vocabulary is 300",
        "",
    ),
}


@pytest.mark.parametrize(("change", "problem", "fix"), DAMAGES.values(), ids=DAMAGES)
def test_a_base_that_is_not_whole_or_cannot_be_trained_is_refused_by_name(whole_base, tmp_path, change, problem, fix):
    folder = copy(whole_base, tmp_path / "base")
    change(folder)
    with pytest.raises(ConfigError, match=problem) as error:
        prove(folder)
    assert error.value.problem.startswith("models.m.base: ")
    assert fix in error.value.fix


def test_whole_bases_pass_in_one_file_in_shards_and_as_the_body_alone(whole_base, tmp_path):
    assert "20 tensors in 1 files; separator <|endoftext|>" in prove(whole_base).summary
    parts, body = copy(whole_base, tmp_path / "parts"), copy(whole_base, tmp_path / "body")
    shard(parts)
    rewrite(body, lambda state: {name.removeprefix("model."): tensor for name, tensor in state.items()})
    add(body, "layers.0.self_attn.rotary_emb.inv_freq")
    assert "20 tensors in 2 files" in prove(parts).summary
    assert "21 tensors in 1 files" in prove(body).summary


def test_an_architecture_that_is_not_known_is_left_to_the_import_but_for_wrappers(whole_base, tmp_path):
    folder = copy(whole_base, tmp_path / "base")
    change_json(folder, "config.json", model_type="own")
    drop(folder, NAME)
    prove(folder)
    prefix(folder, "module.")
    with pytest.raises(ConfigError, match="hold 19 tensors"):
        prove(folder)


def test_a_path_that_is_not_there_is_refused_and_a_hub_name_is_left_to_the_import(tmp_path):
    for base in (str(tmp_path / "gone"), "./gone", "a/b/c"):
        with pytest.raises(ConfigError, match="no such folder"):
            prove(base)
    assert "NOT LOOKED UP" in prove("nobody/nothing").summary


@pytest.mark.parametrize(("data", "problem"), [(POINTER.encode(), "a Git LFS pointer"), (b"PK\x03\x04", "not a GGUF file")])
def test_a_gguf_file_is_one(tmp_path, data, problem):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=f"is {problem}"):
        prove(path)
    path.write_bytes(b"GGUF" + data)
    assert "GGUF file" in prove(path).summary


def test_the_proof_loads_neither_torch_nor_transformers():
    code = (
        "import sys, cpt_ray.model.bases.proof; print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "[]"
