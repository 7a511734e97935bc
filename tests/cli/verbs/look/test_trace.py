"""The options of trace; its answers are tested on trained studies (tests/integration)."""

from __future__ import annotations

import re

import pytest

from tests.cli.said import said
from tests.integration.tables import table_of
from tests.integration.tiny_study import law_documents, write_lines, write_tiny_study


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
    assert "--run NAME and --row I, or --document NAME" in text


@pytest.mark.ray
def test_a_document_of_a_study_that_is_not_trained_is_found_in_its_file(prepared, capsys):
    text = ""
    for row in law_documents():
        if "no shard" not in (text := _trace(prepared, capsys, row["id"])):
            break
    assert re.search(rf"law/0000\d/\d+ was read from {re.escape(str(prepared.inputs / 'law.jsonl'))}", text)
    assert "no trained run saw it" in text
    assert "not trained yet: tiny-legal-trunk-seed0, tiny-legal-2000-seed0" in text


@pytest.mark.ray
def test_an_id_of_many_documents_names_them_all_and_an_identity_names_one(tmp_path, capsys):
    study = write_tiny_study(tmp_path)
    rows = [{**row, "id": "law/00000/1" if number % 2 else "gpl-2"} for number, row in enumerate(law_documents())]
    write_lines(study.inputs / "law.jsonl", rows)
    assert f"ids of law: 2 repeat, on {len(rows)} documents" in said(capsys, "prepare", str(study.config))
    counts = {}
    for name in ("gpl-2", "law/00000/1", "law/00000/2"):
        found = table_of(_trace(study, capsys, name), "source")
        counts[name] = len({line["identity"] for line in found})
        assert {line["document"] for line in found} <= {name, "gpl-2", "law/00000/1"}
    # An id that reads like an identity names the documents that have it, and the one that is there.
    assert counts["gpl-2"] > 20
    assert counts["law/00000/1"] > 20
    assert counts["law/00000/2"] == 1
    text = said(capsys, "inspect", str(study.config), "--source", "law")
    assert re.search(r"--- document (gpl-2|law/00000/1) \(law/0000\d/\d+\): ", text)


def _trace(study, capsys, name: str) -> str:
    from cpt_ray.cli.main import main

    capsys.readouterr()
    main(["trace", str(study.config), "--document", name])
    captured = capsys.readouterr()
    return captured.out + captured.err
