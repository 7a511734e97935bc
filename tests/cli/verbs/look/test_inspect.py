"""Packed rows shown as text; nothing is changed."""

from __future__ import annotations

import re

import pytest

from cpt_ray.cli.main import main
from tests.integration.tiny_study import SEQUENCE_LENGTH, law_documents

pytestmark = pytest.mark.ray


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_inspect_shows_rows_with_the_borders_of_their_documents(prepared, capsys):
    before = prepared.files()
    code, said, _ = run(capsys, "inspect", str(prepared.config), "--rows", "3")
    assert code == 0
    rows = re.split(r"^=== row (\d+) of source law$", said, flags=re.MULTILINE)
    assert rows[1::2] == ["0", "1", "2"]
    texts = {row["id"]: row["text"] for row in law_documents()}
    whole = 0
    for body in rows[2::2]:
        used = 0
        border = r"^--- document (\S+) \(law/\S+\): (\d+) tokens at (\d+)(.*)\n((?:.*\n)*?)(?=---)"
        pieces = re.findall(border, body, re.MULTILINE)
        for name, tokens, start, cut, text in pieces:
            assert int(start) == used
            used += int(tokens)
            whole += not cut and text.removesuffix("\n").removesuffix("<|endoftext|>") == texts[name]
            assert text.removesuffix("\n").removesuffix("<|endoftext|>") in texts[name]
        assert f"--- padding: {SEQUENCE_LENGTH - used} slots" in body
        assert pieces
    code, said, _ = run(capsys, "inspect", str(prepared.config), "--rows", "1", "--source", "news")
    assert said.startswith("=== row 0 of source news\n--- document news_")
    assert prepared.files() == before


def test_inspect_of_a_source_without_rows_names_those_that_have(prepared, capsys):
    code, _, error = run(capsys, "inspect", str(prepared.config), "--source", "sport")
    assert code == 2
    assert "there are no rows of source 'sport'" in error
    assert "fix: name one of law, news with --source" in error
