"""A study where Ray, MLflow, lm-eval and the other optional packages cannot be imported, in no process that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpt_ray.edges.packages import OPTIONAL
from tests.integration.tiny_study import REPOSITORY, TinyStudy

pytestmark = [pytest.mark.slow, pytest.mark.ray]

# How Python marks a module that cannot be imported; a finder that raises would also break `find_spec`, by which libraries look.
SITECUSTOMIZE = f"import sys\nsys.modules.update(dict.fromkeys({sorted(OPTIONAL)!r}))\n"
SCRIPT = """
import json, sys
from cpt_ray.cli.main import main
if __name__ == "__main__":
    codes = [main(command) for command in json.loads(sys.argv[1])]
    loaded = [name for name in json.loads(sys.argv[2]) if sys.modules.get(name) is not None]
    print(json.dumps({"codes": codes, "loaded": loaded}))
"""


def without_packages(folder: Path, *commands: tuple[str, ...]) -> tuple[list[int], str, str]:
    """Run commands in one new process; its exit codes, stdout and stderr."""
    (folder / "site").mkdir(parents=True, exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    (folder / "verbs.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{REPOSITORY}", "DS_ACCELERATOR": "cpu"}
    ran = subprocess.run(
        [sys.executable, str(folder / "verbs.py"), json.dumps(commands), json.dumps(sorted(OPTIONAL))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *said, last = ran.stdout.splitlines()
    result = json.loads(last)
    assert result["loaded"] == []
    return result["codes"], "\n".join(said), ran.stderr


@pytest.fixture
def study(prepared_study: TinyStudy, tmp_path: Path) -> TinyStudy:
    return prepared_study.copy(tmp_path / "study")


def test_prepared_text_is_trained_scored_and_reported_and_every_other_verb_works(study, tmp_path):
    config = str(study.config)
    verbs = [("check",), ("plan",), ("train",), ("evaluate",), ("compare",), ("report",), ("run",), ("inspect",), ("verify",)]
    codes, said, warned = without_packages(
        tmp_path, *[(verb, config) for (verb,) in verbs], ("trace", config, "--document", "law_20")
    )
    assert codes == [0] * 10, warned
    line = "mlflow:  not installed, so nothing is mirrored; the report is complete without it (pip install 'mlflow"
    assert said.count(line) == 2  # report, run
    assert said.count("mlflow: not installed") == 1  # check
    assert (study.root / "report.html").is_file()
    assert not list(study.root.glob("mlflow*"))
    scores = json.loads(next(study.root.glob("evaluate/tiny-legal-4000-*/evaluation.json")).read_text())
    assert [(exam["task"], exam["items"]) for exam in scores["exams"]] == [("tiny_exam", 8)]
    artifact = json.loads(next(study.root.glob("evaluate/tiny-legal-4000-*/artifact.json")).read_text())
    assert "torch" in artifact["versions"]


def test_text_is_prepared_too_where_the_steps_that_need_more_are_off(study, tmp_path):
    off = ("prepare.near_duplicates.enabled=false", "prepare.clean.normalize=false", f"study.root={tmp_path / 'again'}")
    codes, said, warned = without_packages(tmp_path, ("prepare", str(study.config), *off))
    assert codes == [0], warned
    manifest = json.loads(next((tmp_path / "again").glob("shards/tiny-*/manifest.json")).read_text())
    assert len(manifest["task_pids"]["read"]) > 0
    assert os.getpid() not in manifest["task_pids"]["read"]
    assert "separator <|endoftext|>" in said


def test_what_is_missing_is_named_with_its_settings_before_anything_is_built(study, tmp_path):
    config, fresh = str(study.config), f"study.root={tmp_path / 'fresh'}"
    codes, _, said = without_packages(
        tmp_path,
        ("prepare", config, fresh),
        ("check", config, "evaluate.harness_tasks=[piqa]"),
        ("run", config, "evaluate.harness_tasks=[piqa]"),
        ("check", config, "runtime.kind=ray"),
        ("check", config, "tracking.uri=http://127.0.0.1:1"),
        ("check", config, "train.lora={rank: 2, alpha: 4}"),
        ("check", config, "classifiers=[{name: legal, positive: {sources: law}, negative: {sources: news}}]"),
    )
    assert codes == [2] * 7
    assert "prepare.clean.normalize needs the Python package ftfy; prepare.near_duplicates.enabled needs" in said
    assert "set prepare.clean.normalize=false, set prepare.near_duplicates.enabled=false" in said
    assert said.count("evaluate.harness_tasks: piqa needs the Python package lm-eval") == 2
    assert "runtime.kind: ray needs the Python package ray" in said
    assert "tracking.uri needs the Python package mlflow" in said
    assert "train.lora needs the Python package peft" in said
    assert "classifiers.legal needs the Python package scikit-learn" in said
    assert not list((tmp_path / "fresh").glob("documents/*"))
    assert not list(study.root.glob("train/*"))
