"""Secrets are masked, lookalikes are not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.edges.redaction import (
    MASK,
    is_secret_key,
    printable,
    printable_arguments,
    printable_line,
    redact,
    redact_text,
    redact_uris,
)


def test_secrets_are_known_by_whole_words_and_in_addresses():
    tree = {"tokenizer": "t", "document_tokens": 4, "apiKey": "x", "list": [{"password": "p"}], "db_secret": None}
    assert redact(tree) == {
        "tokenizer": "t", "document_tokens": 4, "apiKey": MASK, "list": [{"password": MASK}], "db_secret": None,
    }  # fmt: skip
    assert redact({"eos_token_id": 2, "token_id": "x"}) == {"eos_token_id": 2, "token_id": MASK}  # of a model's configuration
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


@pytest.mark.parametrize(
    "uri",
    [
        "https://me:SECRET@host/x.jsonl",
        "https://me:p@SECRET@host/x.jsonl",
        "https://SECRET@host/x",
        "s3://AKIA:SECRET@bucket/x",
        "postgresql+psycopg2://me:SECRET@db:5432/mlflow",
        "zip://a.csv::https://me:SECRET@host/x.zip",
        "https://host/x?X-Amz-Algorithm=A&X-Amz-Credential=SECRET&X-Amz-Signature=SECRET&X-Amz-Security-Token=SECRET",
        "https://acc.blob.core.windows.net/c/x?sv=2024&sig=SECRET%2B%3D",
        "https://host/x?AWSAccessKeyId=SECRET&Signature=SECRET&Expires=1",
        "https://host/x?token=SECRET",
        "https://host/x?access_token=SECRET&file=a",
        "https://host/x?apikey=SECRET;auth=SECRET",
        "https://host/x?pwd=SECRET&jwt=SECRET&password=SECRET",
        "https://host/x#access_token=SECRET",
        "HTTPS://host/x?SIG=SECRET",
    ],
)
def test_no_form_of_credential_in_a_uri_is_left(uri):
    for text in (uri, f"source law: {uri}: gone", f"'{uri}'", f"- {uri}\n- {uri}"):
        for shown in (redact_text(text), redact_uris(text), printable(text), redact({"path": [text]})["path"][0]):
            assert "SECRET" not in shown
            assert MASK in shown
            assert "://" in shown


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a/b.jsonl?file=x&page=2",
        "hf://datasets/org/name@abc/x.parquet",
        "/data/a?b=c",
        "run a@b and c://d",
        "mlflow ui --backend-store-uri sqlite:////data/mlflow.db",
        "https://host/x and then me@example.org",
    ],
)
def test_what_is_no_credential_is_left_alone(text):
    assert redact_uris(text) == text


def test_control_characters_are_escaped_and_layout_is_kept():
    assert printable("a\tb\n  c") == "a\tb\n  c"
    assert printable("\x1b]0;title\x07") == r"\x1b]0;title\x07"
    assert printable("\x9b2J\x7f\r\x08") == r"\x9b2J\x7f\x0d\x08"
    assert printable("a\u202eb\u2066c\u200f\u2028\ufeff\udcff") == r"a\u202eb\u2066c\u200f\u2028\ufeff\udcff"
    assert printable("Gr\u00f6\u00dfe \u4e2d\u6587 \U0001f600") == "Gr\u00f6\u00dfe \u4e2d\u6587 \U0001f600"
    assert printable_line("a\nb\tc\x1b") == r"a\nb\tc\x1b"


@given(st.text())
def test_nothing_that_is_shown_controls_a_terminal(text):
    shown = printable_line(text)
    assert all(unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert printable_line(shown) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("download/token/abc123def456/a.txt", "download/token/***/a.txt"),
        ("token=abc/a.txt", "token=***/a.txt"),
        ("a/eyJhbGciOi.eyJzdWIi.c2ln/a.txt", "a/***/a.txt"),
        ("file/bot123456:AAFakeTokenValue-0123456789/a.txt", "file/bot123456:***/a.txt"),
        ("Ab3dEf6hIj9kLmN2pQr5/a.txt", "***/a.txt"),
    ],
)
def test_a_part_of_a_web_path_that_shows_to_be_a_secret_is_masked(path, shown):
    assert redact_uris(f"get https://host/{path}: refused") == f"get https://host/{shown}: refused"


@pytest.mark.parametrize(
    "uri",
    [
        "https://host/datasets/a/resolve/87f09149ef4734204d70ed1d046ddc9ca3f2b8f9/part-00000.parquet",
        "https://host/CC-MAIN-2021-10/segments/1614178347293.1/wet/CC-MAIN-20210225124124-20210225154124-00000.warc.wet.gz",
        "https://host/auth/index.html",
        "https://host/token/a.txt",
        "s3://bucket/Ab3dEf6hIj9kLmN2pQr5/a.txt",
    ],
)
def test_names_and_hashes_in_a_path_stay(uri):
    assert redact_uris(uri) == uri


def test_arguments_are_shown_without_the_values_of_secret_keys():
    said = "unrecognized arguments: --api-key=abc tracking.password=abc train.batch_tokens=5; write section.key=value"
    wanted = "unrecognized arguments: --api-key=*** tracking.password=*** train.batch_tokens=5; write section.key=value"
    assert printable_arguments(said) == wanted
