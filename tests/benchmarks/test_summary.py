"""The table of measured claims is what the results files say."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def summary(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("summary")


def test_the_table_of_the_readme_is_that_of_the_results(summary):
    text = summary.README.read_text(encoding="utf-8")
    assert summary.rewritten(text) == text, "run python benchmarks/summary.py"


def test_a_claim_that_misses_its_target_says_so_and_one_without_a_target_is_left_out(summary, tmp_path):
    shared = {"unit": "times", "claim": "faster", "compared_with": "peer 1.0", "commit": "abc"}
    claims = [
        {"id": "x.missed", "value": 0.81361, "target": ">= 1.15", "met": False, **shared},
        {"id": "x.met", "value": 7.0, "target": ">= 3.0", "met": True, **shared},
        {"id": "x.figure", "value": 7.0, "target": None, "met": None, **shared},
    ]
    (tmp_path / "x.json").write_text(json.dumps(claims))
    assert summary.table(tmp_path).splitlines()[2:] == [
        "| `x.met` | 7 times | >= 3.0 | met | faster; against peer 1.0 | abc |",
        "| `x.missed` | 0.8136 times | >= 1.15 | **missed** | faster; against peer 1.0 | abc |",
    ]
