"""A results file has every claim, including missed targets."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.measure.claims import POSITIVE, Claim, ImpossibleError
from benchmarks.measure.record import write_results

ROOT = Path(__file__).parents[3]
KEYS = [
    *("id", "claim", "value", "unit", "spread", "target", "judgement", "compared_with", "processor", "hardware", "versions"),
    *("commit", "date", "raw"),
]


@pytest.fixture
def claims():
    return [
        Claim(id="fast", claim="a seek is fast", value=0.25, unit="s", possible=POSITIVE, target="<= 1.0", raw=[0.2, 0.3]),
        Claim(id="slow", claim="it is not", value=3, unit="s", possible=POSITIVE, target="<= 1.0", compared_with="the budget"),
        Claim(id="told", claim="a thing without a target", value="zero2", unit="stage", possible=None),
    ]


def test_results_are_written_with_every_field_and_misses_stay_in(claims, tmp_path, capsys):
    written = write_results("seek", claims, folder=tmp_path / "new")
    read = json.loads((tmp_path / "new" / "seek.json").read_text(encoding="utf-8"))
    assert read == written
    assert [list(one) for one in read] == [KEYS] * 3
    assert [one["judgement"] for one in read] == ["met", "missed", "no target"]
    assert read[0]["raw"] == [0.2, 0.3]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", read[0]["date"])
    assert re.fullmatch(r"[0-9a-f]{12}(\+changes)?|unknown", read[0]["commit"])
    assert {"python", "torch", "ray"} <= set(read[0]["versions"])
    assert re.search(r"\d+ cores, \d+ GiB memory", read[0]["hardware"])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["seek.json"]
    shown = capsys.readouterr().out
    assert re.search(r"^fast +0\.25 +s +<= 1\.0 +met +a seek is fast$", shown, re.MULTILINE)
    assert re.search(r"^slow +3 +s +<= 1\.0 +MISSED +it is not \(against the budget\)$", shown, re.MULTILINE)
    assert re.search(r"^told +zero2 +stage +- +- +a thing", shown, re.MULTILINE)


def test_a_benchmark_run_in_parts_keeps_what_its_other_parts_measured(claims, tmp_path):
    write_results("seek", claims, folder=tmp_path)
    again = Claim(id="slow", claim="it is now", value=0.5, unit="s", possible=POSITIVE, target="<= 1.0")
    written = write_results("seek", [again], folder=tmp_path, merge=True)
    read = json.loads((tmp_path / "seek.json").read_text(encoding="utf-8"))
    assert [(one["id"], one["value"]) for one in read] == [("fast", 0.25), ("told", "zero2"), ("slow", 0.5)]
    assert written == read[2:]
    write_results("seek", [again], folder=tmp_path)
    assert len(json.loads((tmp_path / "seek.json").read_text(encoding="utf-8"))) == 1


def test_entries_of_another_kind_of_processor_stay(claims, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.measure.record.describe_processor", lambda: "a processor")
    write_results("seek", claims, folder=tmp_path)
    monkeypatch.setattr("benchmarks.measure.record.describe_processor", lambda: "another")
    write_results("seek", claims[:1], folder=tmp_path)
    read = json.loads((tmp_path / "seek.json").read_text(encoding="utf-8"))
    assert [(one["id"], one["processor"]) for one in read] == [
        *((claim.id, "a processor") for claim in claims),
        ("fast", "another"),
    ]


def test_values_that_cannot_be_are_an_error_the_others_are_printed_and_nothing_is_written(claims, tmp_path, capsys):
    wrong = [Claim(id=name, claim="b", value=-0.714, unit="MB per core-second", possible=POSITIVE) for name in ("a", "b")]
    with pytest.raises(ImpossibleError, match=r"(?s)claim a: -0\.714 MB per core-second is impossible.*claim b: .*nothing was"):
        write_results("x", [*wrong, *claims], folder=tmp_path)
    assert "a seek is fast" in capsys.readouterr().out
    with pytest.raises(ImpossibleError):
        write_results("x", wrong, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "target"), [(1, "about 1"), ("one", "<= 1"), (1, "<=1")])
def test_a_target_that_cannot_be_judged_is_refused_and_nothing_is_written(tmp_path, value, target):
    claim = Claim(id="a", claim="b", value=value, unit="c", possible=None, target=target)
    with pytest.raises(ValueError, match=r"claim a: target .* must look like '<= 1\.0'"):
        write_results("x", [claim], folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_claims_need_ids_of_their_own(claims, tmp_path):
    with pytest.raises(ValueError, match="benchmark x: every claim needs a unique id"):
        write_results("x", [claims[0], claims[0]], folder=tmp_path)
    with pytest.raises(ValueError, match="every claim needs a unique id"):
        write_results("x", [], folder=tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.name)
def test_committed_results_have_the_form(path):
    for one in json.loads(path.read_text(encoding="utf-8")):
        assert list(one) == KEYS
