"""The table of measured claims matches the results files."""

from __future__ import annotations

import importlib
import json

import pytest


@pytest.fixture
def summary():
    return importlib.import_module("benchmarks.measure.summary")


def test_the_table_of_the_readme_is_that_of_the_results(summary):
    text = summary.README.read_text(encoding="utf-8")
    assert summary.rewritten(text) == text, "run python -m benchmarks.measure.summary"


def test_a_claim_that_misses_its_target_says_so_and_one_without_a_target_is_left_out(summary, tmp_path):
    shared = {"unit": "times", "claim": "faster", "compared_with": "peer 1.0", "commit": "abc", "processor": "A"}
    claims = [
        {"id": "x.missed", "value": 0.81361, "target": ">= 1.15", "judgement": "missed", **shared},
        {"id": "x.met", "value": 7.0, "target": ">= 3.0", "judgement": "met", **shared},
        {"id": "x.met", "value": 9.0, "target": ">= 3.0", "judgement": "met", **shared, "processor": "B"},
        {"id": "x.figure", "value": 7.0, "target": None, "judgement": "no target", **shared},
    ]
    (tmp_path / "x.json").write_text(json.dumps(claims))
    assert summary.table(tmp_path).splitlines()[2:] == [
        "| `x.met` | a | 7 times | >= 3.0 | met | faster; against peer 1.0 | abc |",
        "| `x.met` | b | 9 times | >= 3.0 | met | faster; against peer 1.0 | abc |",
        "| `x.missed` | a | 0.8136 times | >= 1.15 | **missed** | faster; against peer 1.0 | abc |",
        "",
        "Processors: (a) A; (b) B.",
    ]
