"""New tokens: one id per word, rows that are the mean of the old pieces, and nothing else changed."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, PhiConfig, PhiForCausalLM

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.errors import ConfigError
from cpt_ray.model.base import import_base, load_tokenizer
from tests.evaluate.tiny import build_model, build_tokenizer

WORDS = ("usufruct", "habeas corpus")


def write_base(folder, kind):
    tokenizer = build_tokenizer()
    if kind == "biased":
        torch.manual_seed(0)
        config = PhiConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
        )
        model = PhiForCausalLM(config)
        torch.nn.init.uniform_(model.lm_head.bias)
    else:
        model = build_model(len(tokenizer) + (8 if kind == "reserve" else 0))
        if kind == "untied":
            model.config.tie_word_embeddings = False
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["tied", "untied", "biased", "reserve"])
def test_a_new_row_is_the_mean_of_the_rows_of_its_old_pieces(tmp_path, kind):
    base = write_base(tmp_path / "base", kind)
    import_base(ModelConfig(name="m", base=str(base), new_tokens=WORDS), tmp_path / "out")
    before = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    old, new = load_tokenizer(base), load_tokenizer(tmp_path / "out")
    rows = before.get_input_embeddings().weight.shape[0]
    assert after.config.vocab_size == (rows if kind == "reserve" else rows + len(WORDS))
    tensors = list(zip(*((m.get_input_embeddings().weight, m.lm_head.weight) for m in (before, after)), strict=True))
    if kind == "biased":
        tensors.append((before.lm_head.bias, after.lm_head.bias))
    for first, second in tensors:
        assert torch.equal(first[: len(old)], second[: len(old)])
        for word in WORDS:
            pieces = old(word, add_special_tokens=False).input_ids
            (index,) = new(word, add_special_tokens=False).input_ids
            assert len(pieces) > 1
            assert torch.equal(second[index], first[pieces].float().mean(0).bfloat16())
    assert (after.lm_head.weight is after.get_input_embeddings().weight) == (kind in ("tied", "reserve"))
    text = "The licensee may redistribute"
    assert new(text).input_ids == old(text).input_ids
    sentence = "A usufruct, and habeas corpus."
    assert new.decode(new(sentence).input_ids) == sentence


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("usufruct", "usufruct"), r"models\.m\.new_tokens lists a word twice"),
        ((" ",), r"models\.m\.new_tokens contains ' ', which is not text"),
        (("a",), r"models\.m\.new_tokens: 'a' is already one token \(id \d+\)"),
    ],
)
def test_a_word_that_adds_nothing_is_refused(tmp_path, words, message):
    base = write_base(tmp_path / "base", "tied")
    with pytest.raises(ConfigError, match=message):
        import_base(ModelConfig(name="m", base=str(base), new_tokens=words), tmp_path / "out")
