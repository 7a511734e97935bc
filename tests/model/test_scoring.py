"""The scored part of a document: whole characters, and the bytes that the scored tokens spell."""

from __future__ import annotations

import pytest

from cpt_ray.errors import DataError
from cpt_ray.model.scoring import encode_document
from cpt_ray.records import DocumentKey
from tests.evaluate.tiny import build_tokenizer, make_text


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_a_document_under_the_cap_is_scored_whole(tokenizer):
    text = make_text(3, 4)

    document = encode_document(tokenizer, DocumentKey("law/00000/0", "whole"), text, document_tokens=10_000)

    assert tokenizer.decode(document.tokens) == text
    assert document.bytes == len(text.encode())


def test_a_cut_between_characters_counts_the_bytes_of_the_scored_tokens_exactly(tokenizer):
    text = make_text(3, 4) + " Παράδειγμα 🦜 und Größe, 漢字 again"
    cut_inside_a_character = 0
    length = len(tokenizer(text)["input_ids"])
    for cap in range(1, length):
        document = encode_document(tokenizer, DocumentKey("law/00000/0", "cut"), text, document_tokens=cap)
        spelled = tokenizer.decode(document.tokens)

        assert "\ufffd" not in spelled
        assert text.startswith(spelled)
        assert document.bytes == len(spelled.encode())
        cut_inside_a_character += len(document.tokens) < cap
    assert cut_inside_a_character > 0  # otherwise the multi-byte rule was never used


def test_a_cut_inside_the_first_character_leaves_nothing_and_says_so(tokenizer):
    assert len(tokenizer("東")["input_ids"]) > 1
    with pytest.raises(
        DataError, match=r"'east' \(law/00000/0\) has no whole character within evaluate\.document_tokens=1 tokens"
    ) as caught:
        encode_document(tokenizer, DocumentKey("law/00000/0", "east"), "東京", document_tokens=1)
    assert "raise evaluate.document_tokens" in caught.value.fix


def test_an_empty_document_is_an_error(tokenizer):
    with pytest.raises(DataError, match=r"'nothing' \(law/00000/0\) has no whole character"):
        encode_document(tokenizer, DocumentKey("law/00000/0", "nothing"), "", document_tokens=8)
