from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from cpt_ray.data.tokenize import check_vocabulary, encode, load_encoder, token_dtype
from cpt_ray.errors import DataError

from .conftest import SEPARATOR, VOCABULARY

NASTY = [
    "",
    " ",
    "\n\n\t  x ",
    f"a {SEPARATOR} inside",
    "naïve café — “quoted”",
    "漢字かな交じり文 한국어",
    "👩‍👩‍👧‍👦 \U0001f600",
    "\x00\x04\x7f\u200b\ufeff",
    "a" * 5000,
    "1234567890 " * 300,
    "e\u0301 vs é",
]


@pytest.fixture(scope="module")
def encoder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> object:
    path = tmp_path_factory.mktemp("resolved") / "tokenizer.json"
    path.write_text(check_vocabulary(tokenizer_folder, VOCABULARY, SEPARATOR).definition)
    return load_encoder(path)


@pytest.fixture(scope="module")
def reference(tokenizer_folder: Path) -> object:
    return AutoTokenizer.from_pretrained(str(tokenizer_folder))


def check(encoder: object, reference: object, texts: list[str]) -> None:
    ids, lengths = encode(encoder, texts, 0, "uint16")
    assert ids.dtype == np.uint16
    assert lengths.sum() == len(ids)
    ends = np.cumsum(lengths)
    for text, end, length in zip(texts, ends, lengths, strict=True):
        assert ids[end - length : end].tolist() == [*reference(text, add_special_tokens=False)["input_ids"], 0]


def test_ids_of_adversarial_text_are_those_of_the_tokenizer_itself(encoder: object, reference: object) -> None:
    check(encoder, reference, NASTY)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=5))
def test_ids_of_any_text_are_those_of_the_tokenizer_itself(encoder: object, reference: object, texts: list[str]) -> None:
    check(encoder, reference, texts)


def test_one_separator_per_document_is_added(encoder: object) -> None:
    ids, lengths = encode(encoder, ["one", "two", "three"], 0, "uint16")
    assert (ids == 0).sum() == len(lengths) == 3


def test_the_narrowest_type_holds_every_id() -> None:
    assert [token_dtype(size) for size in (512, 65536, 65537)] == ["uint16", "uint16", "uint32"]


def test_a_vocabulary_that_is_too_small_is_refused(tokenizer_folder: Path) -> None:
    with pytest.raises(DataError, match=r"the tokenizer has ids up to \d+, but the model's vocabulary is 100") as caught:
        check_vocabulary(tokenizer_folder, 100, SEPARATOR)
    assert caught.value.fix == "use the tokenizer that came with the model"
    check_vocabulary(tokenizer_folder, VOCABULARY + 64, SEPARATOR)


def test_a_separator_that_is_not_one_token_is_refused(tokenizer_folder: Path) -> None:
    with pytest.raises(DataError, match=r"the separator '<\|nothing\|>' is not one token of this tokenizer") as caught:
        check_vocabulary(tokenizer_folder, VOCABULARY, "<|nothing|>")
    assert "end-of-text token" in caught.value.fix


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fast tokenizer") as caught:
        check_vocabulary(tmp_path, VOCABULARY, SEPARATOR)
    assert "tokenizer.json" in caught.value.fix
