"""Models from random weights: the same bits everywhere, and a message for each that could not be trained."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.errors import ConfigError
from cpt_ray.model.attention.alone import self_test
from cpt_ray.model.attention.isolation import hidden_states, use_document_attention
from cpt_ray.model.base import import_base, load_model
from cpt_ray.model.bases.init import build_new, describe_new, new_config, prove_new
from cpt_ray.model.bases.proof import prove_base
from cpt_ray.model.head import install_loss_head
from cpt_ray.records import ImportedModel
from tests.evaluate.tiny import SEPARATOR, build_model, build_tokenizer

SHAPE = {
    "architecture": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "tie_word_embeddings": True,
    "max_position_embeddings": 256,
}
LENGTHS = {"prepare.pack.sequence_length": 64}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """Folder of a tokenizer, without a model."""
    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(folder)
    return folder


def new(tokenizer: Path | str, seed: int = 0, **shape: object) -> ModelConfig:
    config = {key: value for key, value in {**SHAPE, **shape}.items() if value is not None}
    return ModelConfig(name="new", base="init", config=config, init_seed=seed, tokenizer=str(tokenizer))


def weights_of(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_weights_are_those_of_transformers_own_initialization_from_the_seed(tokenizer, tmp_path):
    import_base(new(tokenizer, seed=5), tmp_path / "new")
    torch.manual_seed(5)
    rows = len(AutoTokenizer.from_pretrained(tokenizer))
    shape = {key: value for key, value in SHAPE.items() if key != "architecture"}
    expected = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=rows, pad_token_id=None, **shape)).state_dict()
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert found.keys() | {"lm_head.weight"} == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def test_another_process_with_other_threads_draws_the_same_bits_and_another_seed_others(tokenizer, tmp_path):
    import_base(new(tokenizer), tmp_path / "here")
    program = (
        "import sys; from pathlib import Path; from tests.model.bases.test_init import new; "
        "from cpt_ray.model.base import import_base; import torch; torch.rand(7); "
        "import_base(new(sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(tokenizer), str(tmp_path / "there")]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, timeout=300)
    import_base(new(tokenizer, seed=1), tmp_path / "other")
    assert weights_of(tmp_path / "here") == weights_of(tmp_path / "there")
    assert weights_of(tmp_path / "here") != weights_of(tmp_path / "other")


def test_the_process_keeps_its_own_random_numbers(tokenizer):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build_new(new(tokenizer), AutoTokenizer.from_pretrained(tokenizer))
    assert torch.equal(torch.rand(4), expected)


def test_the_imported_folder_has_the_shape_that_was_planned_and_the_tokenizer_that_was_given(tokenizer, tmp_path):
    import_base(new(tokenizer), tmp_path / "new")
    imported = ImportedModel.of(tmp_path / "new")
    assert imported.shape == describe_new(new(tokenizer)).shape
    assert imported.shape.vocabulary_size == len(build_tokenizer())
    assert imported.end_of_text == SEPARATOR
    loaded = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert loaded("3 cafés").input_ids == build_tokenizer()("3 cafés").input_ids
    config = load_model(tmp_path / "new", precision="fp32").config
    assert (config.eos_token_id, config.bos_token_id) == (loaded.eos_token_id, None)


def test_the_proof_says_what_the_model_is(tokenizer):
    facts = prove_base(new(tokenizer), LENGTHS)
    parameters = describe_new(new(tokenizer)).shape.parameters
    assert facts.summary == (f"LlamaForCausalLM from random weights, {parameters:,} parameters, seed 0; separator {SEPARATOR}")
    assert facts.warnings == ()


@pytest.mark.parametrize(
    ("shape", "problem", "fix"),
    [
        ({"hiden_size": 32}, "models.new.config.'hiden_size' is no key of LlamaConfig", "did you mean hidden_size?"),
        ({"model_type": "llama"}, "models.new.config.'model_type' is no key of LlamaConfig", "known keys: attention_bias"),
        ({"architecture": "lama"}, "architecture is 'lama', which transformers does not have", "did you mean llama?"),
        ({"architecture": "t5"}, "architecture is 't5', which transformers does not have as a causal", "such as llama"),
        ({"hidden_size": "many"}, "LlamaConfig refuses it", "change models.new.config"),
        ({"num_attention_heads": 5}, "LlamaConfig refuses it: ValueError: The hidden size (64) is not a multiple", "change"),
        ({"num_key_value_heads": 3}, "4 is not a multiple of num_key_value_heads 3", "num_key_value_heads to one of 1, 2, 4"),
        (
            {"architecture": "qwen2", "num_key_value_heads": None},
            "num_key_value_heads 32, the default of Qwen2Config",
            "num_key_value_heads to one of 1, 2, 4",
        ),
        (
            {"hidden_size": 60, "num_attention_heads": 4},
            "RoPE requires an even rotary dimension, but got",
            "change",
        ),
        ({"num_attention_heads": 0}, "models.new.config.num_attention_heads is 0", "to at least 1"),
        ({"hidden_size": -64}, "models.new.config.hidden_size is -64", "to at least 1"),
        ({"hidden_act": "nothing"}, "LlamaConfig takes it, but no model can be built of it", "change models.new.config"),
        ({"vocab_size": 100}, "models.new.config.vocab_size is 100, but the tokenizer has 400 tokens", "or set it to 400"),
        (
            {"max_position_embeddings": 32},
            "max_position_embeddings is 32, but prepare.pack.sequence_length needs 64",
            "least 64",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:40],
)
def test_a_config_that_cannot_be_trained_is_refused_with_a_fix(tokenizer, shape, problem, fix):
    with pytest.raises(ConfigError) as caught:
        prove_new(new(tokenizer, **shape), LENGTHS)
    assert problem in caught.value.problem
    assert fix in str(caught.value.fix)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("gemma2", "uses softcap, which document attention does not support"),
        ("bloom", "packed, a document's scores change by"),
        ("falcon", "packed, a document's scores change by"),
        ("mamba", "has no attention heads"),
        ("stablelm", "was called without segments"),
    ],
)
def test_an_architecture_that_does_not_keep_documents_apart_is_refused(tokenizer, architecture, reason):
    given = {} if architecture != "bloom" else {"max_position_embeddings": None, "intermediate_size": None}
    if architecture == "bloom":
        given |= {"num_key_value_heads": None, "num_hidden_layers": 2, "num_attention_heads": 4}
    if architecture == "mamba":
        given = dict.fromkeys(["intermediate_size", "num_attention_heads", "num_key_value_heads", "max_position_embeddings"])
    if architecture == "falcon":
        given = {"intermediate_size": None, "num_key_value_heads": None}
    with pytest.raises(ConfigError) as caught:
        prove_new(new(tokenizer, architecture=architecture, **given), LENGTHS)
    assert f"model of architecture {architecture}" in caught.value.problem
    assert reason in caught.value.problem
    assert "full causal attention in every layer" in str(caught.value.fix)


@pytest.mark.parametrize("architecture", ["qwen3", "olmo2", "gpt_neox", "gpt2"])
def test_architectures_of_full_attention_are_accepted(tokenizer, architecture):
    shape = {"intermediate_size": None, "num_key_value_heads": None} if architecture in ("gpt2", "gpt_neox") else {}
    if architecture == "gpt_neox":
        shape = {"num_key_value_heads": None}
    prove_new(new(tokenizer, architecture=architecture, **shape), LENGTHS)


def test_layers_too_large_to_try_are_proven_when_they_train(tokenizer, monkeypatch):
    monkeypatch.setattr("cpt_ray.model.bases.init._MOST_TRIED", 1000)
    said = prove_new(new(tokenizer), LENGTHS)
    assert said.endswith("seed 0; whether it keeps documents apart is proven when it trains")


def test_a_larger_vocabulary_than_the_tokenizers_is_taken(tokenizer):
    assert describe_new(new(tokenizer, vocab_size=512)).shape.vocabulary_size == 512


def test_other_names_of_a_key_are_those_of_transformers(tokenizer):
    shape = {"architecture": "gpt2", "intermediate_size": None, "num_key_value_heads": None, "hidden_size": None, "n_embd": 32}
    assert new_config(new(tokenizer, **shape), 400).hidden_size == 32


def test_a_missing_tokenizer_is_named(tokenizer):
    with pytest.raises(ConfigError, match=r"models\.new\.tokenizer: .*/nowhere: no such folder"):
        prove_base(new("/nowhere"), LENGTHS)
    with pytest.raises(ConfigError, match="which is not a single token of the tokenizer"):
        prove_base(new(tokenizer).model_copy(update={"separator": "<sep>"}), LENGTHS)


def test_a_learned_tokenizer_has_one_separator():
    model = ModelConfig.model_validate(
        {"name": "new", "base": "init", "config": SHAPE, "train_tokenizer": {"vocabulary": 400, "sources": ["law"]}}
    )
    assert prove_base(model, LENGTHS).summary.endswith("separator <|endoftext|>")
    assert describe_new(model).shape.vocabulary_size == 400
    with pytest.raises(ConfigError, match="a learned tokenizer has"):
        prove_base(model.model_copy(update={"separator": "</s>"}), LENGTHS)


def test_the_self_test_finds_a_model_without_isolation(monkeypatch):
    model = build_model(400)
    install_loss_head(model)
    use_document_attention(model)
    assert self_test(model).passed
    monkeypatch.setattr("cpt_ray.model.attention.alone.hidden_states", lambda *args, mask: hidden_states(*args, mask=False))
    assert not self_test(model).passed
