"""The options of trace; its answers are tested on trained studies (tests/integration)."""

from __future__ import annotations

import pytest

from tests.cli.said import said
from tests.integration.tiny_study import law_documents


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--run", "tiny-legal-4000-seed0"],
        ["--row", "1"],
        ["--document", "d", "--run", "r"],
        ["--document", "d", "--row", "1"],
    ],
    ids=" ".join,
)
def test_a_row_of_a_run_or_a_document_must_be_named(tiny, capsys, options):
    text = said(capsys, "trace", str(tiny.config), *options, code=2)
    assert "--run NAME and --row I, or --document ID" in text


@pytest.mark.ray
def test_a_document_of_a_study_that_is_not_trained_is_found_in_its_file(prepared, capsys):
    text = ""
    for row in law_documents():
        if "no shard" not in (text := _trace(prepared, capsys, row["id"])):
            break
    assert f"was read from {prepared.inputs / 'law.jsonl'}" in text
    assert "no trained run saw it" in text
    assert "not trained yet: tiny-legal-trunk-seed0, tiny-legal-2000-seed0" in text


def _trace(study, capsys, name: str) -> str:
    from cpt_ray.cli.main import main

    capsys.readouterr()
    main(["trace", str(study.config), "--document", name])
    captured = capsys.readouterr()
    return captured.out + captured.err
