"""The tables of peers in the documents are those of the results; a ratio is turned so that more is better."""

from __future__ import annotations

import json

import pytest

from benchmarks.peers import table

pytestmark = pytest.mark.accept(practical=4)


def entry(name, value, *, target=None, judgement="no target", date="2026-11-29T10:00:00+00:00", processor="A", **raw):
    shared = {"unit": "", "claim": name, "compared_with": "", "processor": processor, "date": date, "commit": "abc"}
    versions = {"torch": "2.13.0+cpu", "datasets": "5.2.0", "deepspeed": "0.19.8"}
    return {"id": name, "value": value, "target": target, "judgement": judgement, "versions": versions, **shared, "raw": raw}


def rows_of(folder, *entries):
    (folder / "one.json").write_text(json.dumps(entries))
    return table.all_rows(table.newest(folder))


@pytest.mark.parametrize(
    ("path", "rewrite"), [(table.BENCHMARKS, table.rewritten), (table.README, table.rewritten_short)], ids=["long", "short"]
)
def test_the_tables_of_the_documents_are_those_of_the_results(path, rewrite):
    text = path.read_text(encoding="utf-8")
    assert rewrite(text) == text, "run python -m benchmarks.peers --table"
    assert " 20" in text[text.index("peers -->" if path == table.README else table.MARKS[0]) :], "no date"


def test_a_ratio_of_seconds_is_turned_and_one_of_speed_is_not(tmp_path):
    seconds = {"peer": "Tool 1.0", "what": "resuming", "ours": 5.0, "theirs": 20.0, "unit": "s"}
    speed = {"peer": "Tool 1.0", "what": "training", "ours": 90.0, "theirs": 100.0, "unit": "tokens/s"}
    slow, fast = rows_of(
        tmp_path,
        entry("peers.litgpt_speed_ratio", 0.9, target=">= 1.0", judgement="missed", **speed),
        entry("peers.resume_ratio", 0.25, target="<= 1.0", judgement="met", **seconds),
    )
    assert (slow.times, slow.goal, slow.verdict) == (0.9, ">= 1", "**missed**")
    assert (fast.times, fast.goal, fast.verdict) == (4.0, ">= 1", "met")
    assert (fast.ours, fast.theirs, fast.unit) == (5.0, 20.0, "s")


def test_what_other_benchmarks_measured_is_in_it_too(tmp_path):
    speeds = [entry(f"data.tokenize_pack_speed_{name}", value) for name, value in {"ours": 3.0, "datasets": 1.5}.items()]
    step = {"ours": {"step_s": [2.0, 4.0, 3.0]}, "other": {"step_s": [3.3, 3.3, 3.3]}}
    bare = entry("train.bare_ratio", 1.1, target=">= 0.95", judgement="met", **step)
    tokenized, trained = rows_of(tmp_path, *speeds, bare)
    assert (tokenized.peer, tokenized.times, tokenized.goal, tokenized.verdict) == (
        "datasets 5.2.0, run_clm.py's map", 2.0, ">= 1", "met",
    )  # fmt: skip
    assert (trained.peer, trained.ours, trained.theirs, trained.times) == ("bare loop, torch 2.13.0", 3.0, 3.3, 1.1)


def test_the_newest_entry_counts_and_its_processor_is_said(tmp_path):
    raw = {"peer": "Tool 1.0", "what": "training", "ours": 2.0, "theirs": 1.0, "unit": "tokens/s"}
    old = entry("peers.litgpt_speed_ratio", 2.0, date="2026-11-01T00:00:00+00:00", processor="B", **raw)
    new = entry("peers.litgpt_speed_ratio", 3.0, date="2026-11-02T00:00:00+00:00", processor="A", **raw)
    [row] = rows_of(tmp_path, new, old)
    assert row.times == 3.0
    assert table.table(tmp_path).splitlines()[2].endswith("| 3.00 | >= 1 | met | a | 2026-11-02 |")
    assert "(a) A; two cores" in table.table(tmp_path)


def test_what_did_not_run_says_why_and_is_no_row(tmp_path):
    assert rows_of(tmp_path, entry("peers.litgpt_speed_ratio", "did not run: no wheel for this Python")) == []
    assert "- peers.litgpt_speed_ratio: did not run: no wheel for this Python" in table.table(tmp_path)


def test_the_versions_of_the_peers_of_data_are_those_it_installs():
    from benchmarks.data.bench import PEERS

    assert {table.DATATROVE.replace(" ", "=="), table.LITDATA.replace(" ", "==")} <= set(PEERS)


def test_the_short_table_fits():
    assert 5 <= len(table.short_table().split("\n\n")[0].splitlines()) - 2 <= 12
