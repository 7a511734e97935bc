"""Small text files and JSON: what is read, and the message of every refusal. Files of real studies: `test_deepspeed.py`."""

import os
import re

import pytest

from cpt_ray.config.plain_text import MOST_BYTES, parse_json, problem_of_string, read_integer, read_text_file, shorten
from cpt_ray.errors import ConfigError


def refusal(path):
    with pytest.raises(ConfigError) as caught:
        read_text_file(path, kind="study file", fix="give a file")
    return str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text_file(path, kind="study file", fix="") == "a: 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1".encode("utf-16"), "not UTF-8 text: it is UTF-16"),
        ("a: 1".encode("utf-32"), "not UTF-8 text: it is UTF-32"),
        (b"\xfe\xff\x00a", "not UTF-8 text: it is UTF-16"),
        (b"a: 1\nb: \xe9\n", "line 2: not UTF-8 text: invalid continuation byte"),
        (b"#" * (MOST_BYTES + 1), f"{MOST_BYTES + 1} bytes, but a study file has at most {MOST_BYTES}"),
    ],
    ids=("utf-16", "utf-32", "utf-16-be", "latin-1", "large"),
)
def test_content_that_is_no_small_utf_8_text_is_refused(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    assert message in refusal(path)


def test_a_path_that_names_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "no such study file\n  fix: give a file" in refusal(tmp_path / "none")
    assert "is a folder, not a study file" in refusal(tmp_path)
    assert "is not a regular file" in refusal(tmp_path / "pipe")
    assert "cannot be read: File name too long" in refusal(tmp_path / ("x" * 5000))
    assert "cannot be read: Too many levels of symbolic links" in refusal(tmp_path / "loop")
    assert r"a\x00b': is not a path: embedded null byte" in refusal(tmp_path / "a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused(tmp_path):
    (tmp_path / "secret").touch(mode=0)
    assert "cannot be read: Permission denied" in refusal(tmp_path / "secret")


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, "x", null, true]}', "[]", '"["', '{"a": "' + "[" * 200 + '"}', '"\\\\\\""'])
def test_json_is_read(text):
    import json

    assert parse_json(text, "file") == json.loads(text)


@pytest.mark.parametrize("text", ["[\n\n-Infinity]", "[\n\n1e999]", "[\n\n" + "9" * 5000 + "]", "[\n\n,]", "[\n\n" + "[" * 64])
def test_a_json_that_is_refused_names_the_line(text):
    with pytest.raises(ConfigError, match="file: line 3: "):
        parse_json(text, "file")


@pytest.mark.parametrize("text", ['["\\u0000"]', '{"\\u001b": 1}', '{"a": {"b": ["\\ud800"]}}', '"\\u009b"'])
def test_an_escape_that_is_no_text_is_refused(text):
    with pytest.raises(ConfigError, match=r"which is not text\n  fix: remove that character"):
        parse_json(text, "file")


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f", "\x9b", "\ud800", "\uffff"])
def test_control_characters_are_no_text(character):
    assert f"U+{ord(character):04X}" in problem_of_string(f"a{character}b")


@pytest.mark.parametrize("text", ["", "two\nlines\tand a tab\r\n", "Größe 中文 \u200f", "\U0001f600"])
def test_text_of_every_script_is_text(text):
    assert problem_of_string(text) is None


def test_an_integer_is_read_up_to_64_bits():
    assert read_integer("-9223372036854775808") == -(2**63)
    assert read_integer("0" * 5000 + "7") == 7
    assert read_integer("9223372036854775808") is None
    assert read_integer("9" * 100_000) is None


def test_a_long_value_is_shortened():
    deep = []
    for _ in range(5000):
        deep = [deep]
    assert shorten("x" * 10**6) == "'" + "x" * 119 + "..."
    assert shorten(10**5000) == "a number beyond 64 bits"
    assert shorten([10**5000]) == "a list"
    assert shorten(deep) == "a list"
    assert re.fullmatch(r"\{'a': 1\}", shorten({"a": 1}))
