"""What a benchmark writes down: all of it, also what misses its target."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEYS = ["id", "claim", "value", "unit", "target", "met", "compared_with", "hardware", "versions", "commit", "date", "raw"]


@pytest.fixture(scope="module")
def record():
    spec = importlib.util.spec_from_file_location("benchmark_record", ROOT / "benchmarks" / "record.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def claims(record):
    return [
        record.Claim(id="fast", claim="a seek is fast", value=0.25, unit="s", target="<= 1.0", raw=[0.2, 0.3]),
        record.Claim(id="slow", claim="it is not", value=3, unit="s", target="<= 1.0", compared_with="the budget"),
        record.Claim(id="told", claim="a thing without a target", value="zero2", unit="stage"),
    ]


def test_results_are_written_with_every_field_and_misses_stay_in(record, claims, tmp_path, capsys):
    written = record.write_results("seek", claims, folder=tmp_path / "new")
    read = json.loads((tmp_path / "new" / "seek.json").read_text(encoding="utf-8"))
    assert read == written
    assert [list(one) for one in read] == [KEYS] * 3
    assert [one["met"] for one in read] == [True, False, None]
    assert read[0]["raw"] == [0.2, 0.3]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", read[0]["date"])
    assert re.fullmatch(r"[0-9a-f]{12}(\+changes)?|unknown", read[0]["commit"])
    assert {"python", "torch", "ray"} <= set(read[0]["versions"])
    assert re.search(r"\d+ cores, \d+ GiB memory", read[0]["hardware"])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["seek.json"]
    shown = capsys.readouterr().out
    assert re.search(r"^fast +0\.25 +s +<= 1\.0 +yes +a seek is fast$", shown, re.MULTILINE)
    assert re.search(r"^slow +3 +s +<= 1\.0 +NO +it is not \(against the budget\)$", shown, re.MULTILINE)
    assert re.search(r"^told +zero2 +stage +- +- +a thing", shown, re.MULTILINE)


def test_a_benchmark_run_in_parts_keeps_what_its_other_parts_measured(record, claims, tmp_path):
    record.write_results("seek", claims, folder=tmp_path)
    again = record.Claim(id="slow", claim="it is now", value=0.5, unit="s", target="<= 1.0")
    written = record.write_results("seek", [again], folder=tmp_path, merge=True)
    read = json.loads((tmp_path / "seek.json").read_text(encoding="utf-8"))
    assert [(one["id"], one["value"]) for one in read] == [("fast", 0.25), ("told", "zero2"), ("slow", 0.5)]
    assert written == read[2:]
    record.write_results("seek", [again], folder=tmp_path)
    assert len(json.loads((tmp_path / "seek.json").read_text(encoding="utf-8"))) == 1


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [
        (1.0, "<= 1.0", True),
        (1.1, "<= 1.0", False),
        (2, "> 2", False),
        (2, ">= 2", True),
        (1, "< 2", True),
        (True, "== 1", True),
    ],
)
def test_a_target_is_judged(record, value, target, met):
    assert record.Claim(id="a", claim="b", value=value, unit="c", target=target).met() is met


@pytest.mark.parametrize(("value", "target"), [(1, "about 1"), ("one", "<= 1"), (1, "<=1")])
def test_a_target_that_cannot_be_judged_is_refused_and_nothing_is_written(record, tmp_path, value, target):
    claim = record.Claim(id="a", claim="b", value=value, unit="c", target=target)
    with pytest.raises(ValueError, match=r"claim a: target .* must read like '<= 1\.0'"):
        record.write_results("x", [claim], folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_claims_need_ids_of_their_own(record, claims, tmp_path):
    with pytest.raises(ValueError, match="benchmark x: every claim needs an id of its own"):
        record.write_results("x", [claims[0], claims[0]], folder=tmp_path)
    with pytest.raises(ValueError, match="every claim needs an id of its own"):
        record.write_results("x", [], folder=tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.name)
def test_committed_results_have_the_form(path):
    for one in json.loads(path.read_text(encoding="utf-8")):
        assert list(one) == KEYS
