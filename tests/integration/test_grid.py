"""A grid over mixture, learning rate, row length and adapters: shared artifacts once, killed and continued, one report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cpt_ray.config.load import load_study
from cpt_ray.records import Artifact, Comparison
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.grid import Grid
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.train import TRAIN
from tests.integration.finished import cpt_ray
from tests.integration.tiny_study import TinyStudy, write_tiny_study

pytestmark = [pytest.mark.slow, pytest.mark.accept(grid=3)]

AXES = {
    "mix": {"key": "arms.legal.mix", "values": {"half": {"law": 0.5, "news": 0.5}, "most": {"law": 0.75, "news": 0.25}}},
    "setup": {
        "values": {
            "plain": {"train.learning_rate_factor": 1.0},
            "gentle": {"train.learning_rate_factor": 0.5},
            "short": {"prepare.pack.sequence_length": 32},
            "lora": {"train.lora": {"rank": 4, "alpha": 8}},
        }
    },
}
CELLS, DOMAIN_RUNS, CONTROL_RUNS = 8, 8, 4


def committed(root: Path, stage: str) -> dict[str, int]:
    """Committed artifacts of a stage, with the time of their commit."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (root / stage).glob(f"*/{Artifact.FILE}")}


def killed_after(study: TinyStudy, runs: int) -> None:
    """Start the study as a user would, and kill it once it has committed some runs."""
    command = [sys.executable, "-m", "cpt_ray.cli.main", "run", str(study.config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)) as driver:
        deadline = time.monotonic() + 300
        while len(committed(study.root, "train")) < runs:
            assert driver.poll() is None, "the study ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[TinyStudy, dict[str, int], str]:
    """The grid, killed in the middle and run again: what was committed before, and what the second command said."""
    study = write_tiny_study(tmp_path_factory.mktemp("grid") / "study", kind="local")
    tree = yaml.safe_load(study.config.read_text())
    tree["train"] |= {"budgets": [2000], "checkpoint_every": 100_000}
    study.change(axes=AXES, train=tree["train"])
    killed_after(study, 4)
    before = committed(study.root, "train")
    code, said = cpt_ray("run", str(study.config))
    assert code == 0, said
    return study, before, said


def test_shared_artifacts_are_made_once_and_a_killed_grid_continues(done, record_property):
    study, before, said = done
    assert len(committed(study.root, "models")) == len(committed(study.root, "documents")) == 1
    assert len(committed(study.root, "shards")) == 2
    after = committed(study.root, "train")
    assert len(after) == DOMAIN_RUNS + CONTROL_RUNS
    assert 4 <= len(before) < len(after)
    assert {name: after[name] for name in before} == before
    assert f"{CELLS} cells" in said
    record_property("cells", f"{CELLS}, over mixture, learning rate, row length and adapters")
    record_property("runs made", f"{len(after)}, of {2 * CELLS} if nothing were shared")
    record_property("runs before the kill", f"{len(before)}, none made again")
    assert len(committed(study.root, "evaluate")) == 1 + DOMAIN_RUNS + CONTROL_RUNS


def test_each_cell_is_compared_with_its_own_control(done):
    study, _, _ = done
    comparison = Comparison.of(study.root)
    pairs = {(delta.subject, delta.reference) for delta in comparison.deltas}
    assert ("tiny-legal-2000-seed0@mix-half+setup-short", "tiny-control-2000-seed0@setup-short") in pairs
    assert ("tiny-legal-2000-seed0@mix-half+setup-short", "tiny-control-2000-seed0@setup-plain") not in pairs
    assert ("tiny-legal-2000-seed0@mix-most+setup-lora", "tiny-base") in pairs
    assert len({point.run for point in comparison.points}) == 1 + DOMAIN_RUNS + CONTROL_RUNS
    page = (study.root / "report.html").read_text()
    assert "legal@mix-half+setup-short" in page


def test_a_second_run_builds_nothing_and_a_cell_is_the_study_that_it_names(done, tmp_path):
    study = done[0].copy(tmp_path / "study")  # a report on some cells replaces that on all
    stages = ("models", "documents", "shards", "train", "evaluate")
    before = {stage: committed(study.root, stage) for stage in stages}
    assert cpt_ray("run", str(study.config), "--only", "mix-half*")[0] == 0
    assert {stage: committed(study.root, stage) for stage in stages} == before
    config = load_study(study.config)
    alone = config.model_copy(update={"axes": {}})
    graph = StudyGraph(alone, study.config)  # the file's own values: most, plain
    cell = next(c for c in StudyGraph(config, study.config).cells if c.cell.name == "mix-most+setup-plain")
    for stage in (TRAIN, EVALUATE):
        assert [node.folder for node in graph.of(stage)] == [node.folder for node in cell.of(stage)]


def test_a_row_of_a_run_is_traced_by_its_name_in_the_grid(done):
    study, _, _ = done
    names = [one.name for one in Grid(StudyGraph(load_study(study.config), study.config)).trained()]
    name = "tiny-control-2000-seed0@setup-short"
    assert name in names
    code, said = cpt_ray("trace", str(study.config), "--run", name, "--row", "3")
    assert code == 0
    assert f"row 3 of run {name}" in said
    assert cpt_ray("trace", str(study.config), "--document", "law_1")[0] == 2
