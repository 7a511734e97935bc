"""A study file is checked against the files it names, and nothing is built."""

from __future__ import annotations

import json

import yaml

from tests.cli.said import said


def test_it_says_what_it_found_of_files_deepspeed_and_artifacts(tiny, capsys):
    text = said(capsys, "check", str(tiny.config))
    size = sum(path.stat().st_size for path in tiny.inputs.glob("law*.jsonl"))
    assert f"source law: 1 files, {size / 1e6:.1f} MB" in text
    assert "ZeRO stage" in text
    assert "runs: 4; artifacts: 0 of 14 are there" in text
    assert text.splitlines()[-2:] == ["check passed", f"next: cpt-ray plan {tiny.config}"]
    assert not tiny.root.exists()


def test_a_pinned_dataset_that_cannot_be_looked_up_from_here_is_no_reason_to_refuse(tiny, capsys, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)  # the variable was read at import
    sources = {"name": "law", "role": "domain", "dataset": {"name": "nobody/none", "revision": "0" * 40}, "format": "jsonl"}
    news = {"name": "news", "role": "general", "path": str(tiny.inputs / "news.jsonl"), "format": "jsonl"}
    tiny.change(sources=[sources, news])
    assert "source law: NOT LOOKED UP: " in said(capsys, "check", str(tiny.config))


def test_a_file_that_is_missing_is_refused_with_its_name(tiny, capsys):
    assert "gone.jsonl" in said(capsys, "check", str(tiny.config), "sources.law.path=gone.jsonl", code=2)


def test_a_deepspeed_file_that_is_no_json_is_refused_with_its_name(tiny, tmp_path, capsys):
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 1}})[:-3])
    assert "ds.json" in said(capsys, "check", str(tiny.config), f"train.deepspeed={tmp_path / 'ds.json'}", code=2)


def test_it_says_how_sources_are_derived_and_what_a_study_without_a_probe_can_not_say(tiny, capsys):
    tree = yaml.safe_load(tiny.config.read_text())
    derived = [
        {"name": "news_legal", "from": "news", "where": "legal >= 0.8"},
        {"name": "news_matched", "from": "news", "quality_matched": {"like": "news_legal", "by": "legal"}},
    ]
    classifiers = [{"name": "legal", "positive": {"sources": "law"}, "negative": {"sources": "news"}}]
    tiny.change(sources=[*tree["sources"], *derived], classifiers=classifiers)
    text = said(capsys, "check", str(tiny.config))
    assert "source news_legal: from news, legal >= 0.8" in text
    assert "source news_matched: from news, quality_matched like news_legal, by legal" in text
    assert "No probe: arms train on all general text (news by legal, control)" in text
    tiny.change(sources=[*tree["sources"], {**tree["sources"][1], "name": "apart", "role": "probe"}])
    assert "No probe" not in said(capsys, "check", str(tiny.config), "classifiers=[]")
