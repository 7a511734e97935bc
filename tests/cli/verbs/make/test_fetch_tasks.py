"""The items that training text is scanned for are fetched once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from cpt_ray.cli.main import main
from tests.cli.said import said


def test_fetched_items_are_those_of_the_listed_exams_and_tasks(tiny, tmp_path, capsys):
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    data = tmp_path / "own.jsonl"
    data.write_text(json.dumps({"q": "What is said here?", "a": "What is always said."}) + "\n")
    own = {
        "task": "own",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "acc"}],
    }
    (tasks / "own.yaml").write_text(yaml.safe_dump(own))
    given = [str(tiny.config), f"evaluate.harness_path={tasks}", "prepare.decontaminate.tasks=[tiny_exam, own]"]
    assert main(["fetch-tasks", *given]) == 0
    said = capsys.readouterr().out
    path = Path(next(line for line in said.splitlines() if line.startswith("items: ")).removeprefix("items: "))
    items = [json.loads(line) for line in path.read_text().splitlines()]
    assert [item["task"] for item in items] == ["tiny_exam"] * 8 + ["own"]
    assert (items[-1]["question"], items[-1]["answer"]) == ("What is said here?", "What is always said.")
    # Fetched once: the data may be gone afterward.
    data.unlink()
    before = path.stat().st_mtime_ns
    shutil.rmtree(tmp_path / "cache")
    assert main(["fetch-tasks", *given]) == 0
    assert path.stat().st_mtime_ns == before


def test_a_study_that_scans_for_nothing_says_so(tiny, capsys):
    text = said(capsys, "fetch-tasks", str(tiny.config), "prepare.decontaminate.enabled=false")
    assert "nothing to fetch" in text
    assert not (tiny.root / "scan").exists()
