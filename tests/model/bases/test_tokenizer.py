"""The ids are those of the base's own tokenizer.json, whatever class its settings name."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.errors import ConfigError
from cpt_ray.model.base import import_base, load_tokenizer
from cpt_ray.model.bases.tokenizer import exact_tokenizer, first_difference, require_same_ids
from cpt_ray.model.bases.tokens import DEFINITION
from tests.evaluate.tiny import SEPARATOR, build_tokenizer
from tests.model.bases.damage import change_json, copy

pytestmark = pytest.mark.accept(inputs=1)

CLASSES = [
    "GPT2Tokenizer",
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "Qwen2Tokenizer",
    "GPTNeoXTokenizer",
    "CohereTokenizer",
    "Nobodys",
]


def split_digits(folder):
    """Save a tokenizer that sees digits one by one, as its file alone says."""
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(folder)
    return Tokenizer.from_file(str(folder / DEFINITION))


@pytest.mark.parametrize("name", CLASSES)
def test_an_import_has_the_ids_of_the_file_whatever_class_the_settings_name(whole_base, tmp_path, name):
    base = copy(whole_base, tmp_path / "base")
    engine = split_digits(base)
    change_json(base, "tokenizer_config.json", tokenizer_class=name)
    import_base(ModelConfig(name="m", base=str(base)), tmp_path / "out")
    imported = load_tokenizer(tmp_path / "out")
    assert first_difference(imported, engine) is None
    assert first_difference(AutoTokenizer.from_pretrained(tmp_path / "out"), engine) is None
    assert imported.eos_token == SEPARATOR


def test_a_tokenizer_that_encodes_otherwise_is_replaced_by_the_file_and_keeps_its_named_tokens(tmp_path):
    engine, other = split_digits(tmp_path), build_tokenizer()
    assert first_difference(other, engine).strip().isdigit()
    with pytest.raises(ConfigError, match=r"models\.m: transformers encodes ' ?\d+' as 1 ids where the base's .* 2"):
        require_same_ids(other, engine, "models.m")
    exact = exact_tokenizer(other, tmp_path / DEFINITION, "models.m")
    assert first_difference(exact, engine) is None
    assert exact.eos_token == SEPARATOR
    assert exact_tokenizer(other, None, "models.m") is other


def test_the_fixed_text_tells_apart_what_tokenizers_split_differently(tmp_path):
    before = build_tokenizer()
    for change in (
        pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    ):
        other = build_tokenizer().backend_tokenizer
        other.pre_tokenizer = change
        assert first_difference(before, other) is not None
    assert first_difference(before, build_tokenizer().backend_tokenizer) is None


def test_text_that_spells_a_control_token_is_split_where_text_is_scored(whole_base, tmp_path):
    import_base(ModelConfig(name="m", base=str(whole_base)), tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out")
    text = f"a{SEPARATOR}b"
    end = tokenizer.convert_tokens_to_ids(SEPARATOR)
    assert end in tokenizer(text)["input_ids"]
    assert end not in tokenizer(text, split_special_tokens=True)["input_ids"]
