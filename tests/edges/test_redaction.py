"""Secrets are masked, lookalikes are not."""

import pytest

from cpt_ray.edges.redaction import MASK, is_secret_key, redact, redact_text


def test_secrets_are_known_by_whole_words_and_in_addresses():
    tree = {"tokenizer": "t", "document_tokens": 4, "apiKey": "x", "list": [{"password": "p"}], "db_secret": None}
    assert redact(tree) == {
        "tokenizer": "t", "document_tokens": 4, "apiKey": MASK, "list": [{"password": MASK}], "db_secret": None,
    }  # fmt: skip
    assert redact_text("http://u:p@h/x?token=abc&y=1") == "http://***@h/x?token=***&y=1"
    assert (
        redact_text("a:\n  - api_key: xyz\n  tokenizer: ok\n  key: null")
        == "a:\n  - api_key: ***\n  tokenizer: ok\n  key: null"
    )
    assert redact_text("package://dist/a@b.txt") == "package://dist/a@b.txt"


@pytest.mark.parametrize("key", ["api_key", "hfToken", "AWS_SECRET", "password", "auth"])
def test_a_key_with_a_word_for_a_secret_is_one(key):
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["tokenizer", "batch_tokens", "keyword", "author", "monkey"])
def test_a_longer_word_is_not_a_secret(key):
    assert not is_secret_key(key)
