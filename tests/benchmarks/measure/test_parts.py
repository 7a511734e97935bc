"""A benchmark measures the parts that are named, or all, and writes each when it is done."""

import json

import pytest

from benchmarks.measure import parts
from benchmarks.measure.claims import POSITIVE, Claim


def claim(name, value=1.0):
    return [Claim(id=name, claim=name, value=value, unit="s", possible=POSITIVE)]


PARTS = {"first": lambda given: claim("first", given), "silent": lambda _: [], "wrong": lambda _: claim("wrong", -1.0)}


@pytest.fixture
def given_options(monkeypatch, tmp_path):
    monkeypatch.setattr(parts, "RESULTS", tmp_path)

    def parsed(*words):
        monkeypatch.setattr("sys.argv", ["bench", *words])
        return parts.parsed(parts.part_parser("what it measures", PARTS, quick="little"), PARTS)

    return parsed


def test_without_names_all_parts_are_measured(given_options):
    assert given_options().parts == ["first", "silent", "wrong"]
    assert given_options("silent", "--quick").parts == ["silent"]


def test_an_unknown_part_is_named_beside_the_known_ones(given_options, capsys):
    with pytest.raises(SystemExit):
        given_options("frist")
    assert "unknown part frist; known: first, silent, wrong" in capsys.readouterr().err


def test_each_part_is_written_and_the_claims_of_others_are_kept(given_options, tmp_path):
    parts.measure_parts("theme", PARTS, 2.0, given_options("first", "silent"))
    more = {**PARTS, "second": lambda _: claim("second")}
    options = given_options("first")
    options.parts = ["second"]
    parts.measure_parts("theme", more, 2.0, options)
    written = json.loads((tmp_path / "theme.json").read_text(encoding="utf-8"))
    assert [(one["id"], one["value"]) for one in written] == [("first", 2.0), ("second", 1.0)]


def test_a_quick_run_leaves_the_results_as_they_are(given_options, tmp_path):
    parts.measure_parts("theme", PARTS, 2.0, given_options("first", "--quick"))
    assert not list(tmp_path.iterdir())


def test_an_impossible_value_ends_it_after_what_was_measured_before(given_options, tmp_path):
    with pytest.raises(SystemExit, match=r"wrong.*-1"):
        parts.measure_parts("theme", PARTS, 2.0, given_options())
    assert [one["id"] for one in json.loads((tmp_path / "theme.json").read_text(encoding="utf-8"))] == ["first"]
