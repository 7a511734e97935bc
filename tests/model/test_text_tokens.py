"""Separator and BOS: the study's choice, otherwise the tokenizer's, and only tokens in its vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt_ray.config.sections.train import ModelConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError, DataError
from cpt_ray.model.shape import describe_model
from cpt_ray.model.text_tokens import text_tokens
from cpt_ray.records import ImportedModel, TextTokens
from tests.evaluate.tiny import SEPARATOR, build_model, build_tokenizer


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    write_atomic(tmp_path / ImportedModel.FILE, describe_model(build_model(len(tokenizer)), tokenizer).to_json())
    return tmp_path


def change(folder: Path, **fields: object) -> None:
    found = ImportedModel.of(folder).model_copy(update=fields)
    write_atomic(folder / ImportedModel.FILE, found.to_json())


def model(**fields: object) -> ModelConfig:
    return ModelConfig.model_validate({"name": "m", "base": "b", **fields})


def test_the_separator_is_the_tokenizers_own_or_a_token_that_it_knows(imported: Path) -> None:
    assert text_tokens(model(), imported) == TextTokens(separator=SEPARATOR, bos=None)
    assert text_tokens(model(separator="a"), imported).separator == "a"
    with pytest.raises(ConfigError, match=r"models\.m\.separator is '<\|nope\|>', which is not a single token") as error:
        text_tokens(model(separator="<|nope|>"), imported)
    assert SEPARATOR in error.value.fix
    change(imported, end_of_text=None)
    with pytest.raises(ConfigError, match="no end-of-text token"):
        text_tokens(model(), imported)


def test_the_bos_is_what_the_tokenizer_adds_unless_the_study_says_otherwise(imported: Path) -> None:
    change(imported, added_bos=SEPARATOR)
    assert text_tokens(model(), imported).bos == SEPARATOR
    assert text_tokens(model(bos="none"), imported).bos is None
    assert text_tokens(model(bos="a"), imported).bos == "a"
    with pytest.raises(ConfigError, match=r"models\.m\.bos is '<s>', which is not a single token of the tokenizer") as error:
        text_tokens(model(bos="<s>"), imported)
    assert SEPARATOR in error.value.fix
    assert "`none`" in error.value.fix


def test_a_document_that_is_scored_alone_begins_with_its_bos_or_after_a_separator() -> None:
    assert TextTokens(separator="<eot>", bos=None).prefix == "<eot>"
    assert TextTokens(separator="<eot>", bos="<s>").prefix == "<s>"


def test_a_tokenizer_that_is_not_fast_is_refused(imported: Path) -> None:
    (imported / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="no fast tokenizer"):
        text_tokens(model(), imported)
