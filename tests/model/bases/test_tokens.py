"""What a tokenizer's files say: the end of a text, control tokens, and ids that text can produce."""

from __future__ import annotations

import json

import pytest

from cpt_ray.errors import ConfigError
from cpt_ray.model.bases.tokens import TokenizerFiles, chat_end_warning, control_tokens, largest_text_id, vocabulary

pytestmark = pytest.mark.accept(inputs=1)


def added(number, content, *, special=True):
    return {"id": number, "content": content, "special": special}


DEFINITION = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "<unk>": 2}, "unk_token": "<unk>"},
    "added_tokens": [
        added(2, "<unk>"), added(3, "<s>"), added(4, "<|im_start|>", special=False), added(5, "usufruct", special=False),
        added(900, "<pad>"), added(901, "<|x|>", special=False),
    ],
}  # fmt: skip


def test_control_tokens_are_declared_or_spelled_so_and_words_and_unknown_are_not():
    assert control_tokens(DEFINITION) == ("<s>", "<|im_start|>", "<pad>", "<|x|>")


def test_only_what_text_can_produce_must_fit_the_embedding():
    assert largest_text_id(DEFINITION) == 5
    assert vocabulary(DEFINITION)["<|x|>"] == 901
    assert largest_text_id({"model": {"vocab": [["a", -1.0], ["b", -2.0]]}, "added_tokens": []}) == 1


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("tokenizer_config.json", {"eos_token": "<|a|>"}, "<|a|>"),
        ("tokenizer_config.json", {"eos_token": {"content": "<|b|>", "lstrip": False}}, "<|b|>"),
        ("special_tokens_map.json", {"eos_token": "<|c|>"}, "<|c|>"),
        ("tokenizer_config.json", {"eos_token": None}, None),
        ("other.json", {"eos_token": "<|d|>"}, None),
    ],
)
def test_the_end_of_text_is_what_the_settings_name(tmp_path, name, content, found):
    (tmp_path / name).write_text(json.dumps(content))
    assert TokenizerFiles(tmp_path, "models.m.base").end_of_text == found


def test_a_file_that_defines_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"models\.m\.base: .*tokenizer\.json defines no tokenizer"):
        _ = TokenizerFiles(tmp_path, "models.m.base").definition


@pytest.mark.parametrize(
    ("separator", "known", "better"),
    [
        ("<|im_end|>", ["<|im_end|>", "<|endoftext|>"], "<|endoftext|>"),
        ("<|eot_id|>", ["<|eot_id|>", "<|end_of_text|>"], "<|end_of_text|>"),
        ("<end_of_turn>", ["<end_of_turn>", "<eos>"], "<eos>"),
        ("<|end|>", ["<|end|>", "<|endoftext|>"], "<|endoftext|>"),
        ("<|im_end|>", ["<|im_end|>"], None),
        ("</s>", ["</s>", "<|im_end|>"], None),
        ("<|endoftext|>", ["<|endoftext|>", "<|im_end|>"], None),
    ],
)
def test_the_end_of_a_chat_turn_is_warned_about_where_there_is_an_end_of_text(separator, known, better):
    warning = chat_end_warning(separator, dict.fromkeys(known, 0), "models.m")
    assert (warning is None) == (better is None)
    assert better is None or f"this tokenizer has {better!r}" in warning
