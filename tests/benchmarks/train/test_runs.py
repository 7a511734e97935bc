"""The training benchmark compares equal work: its peers, on the rows of our run, have our losses."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.train.monitor.metrics import read_metrics
from tests.train.tiny_run import make_model, make_shards, make_task, spec_named, tiny_config

ROOT = Path(__file__).parents[3]
os.environ["DS_ACCELERATOR"] = "cpu"


@pytest.fixture(scope="module")
def train_runs():
    return importlib.import_module("benchmarks.train.runs")


@pytest.fixture(scope="module")
def settings(tmp_path_factory, train_runs):
    """A finished tiny run in bf16, and the settings for its peers."""
    from cpt_ray.train.worker import run_worker

    root = tmp_path_factory.mktemp("bench")
    make_model(root)
    make_shards(root)
    config = tiny_config(root, precision="bf16", budgets=[1500], micro_batch_size=2)
    run_worker(make_task(root, config, spec_named(config, "legal-1500"), "run"))
    steps = read_metrics(root / "run")
    assert len(steps) >= 5
    made = train_runs.peer_settings(
        steps,
        config.train,
        model=root / "model",
        shards=root / "shards",
        micro_rows=2,
        deepspeed=load_deepspeed(config.train.deepspeed).tree,
        result=root / "peer.json",
    )
    return made, [step.loss for step in steps]


def peer(name: str, settings) -> dict[str, list[float]]:
    path = Path(settings.result).with_name("settings.json")
    path.write_text(json.dumps(asdict(settings)))
    group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29583"}
    environment = {**os.environ, **group, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "benchmarks.train.peers", name, str(path)], env=environment, check=True)
    return json.loads(Path(settings.result).read_text())


@pytest.mark.parametrize("name", ["bare", pytest.param("hf", marks=pytest.mark.full)])
def test_a_peer_has_our_losses_at_every_step(settings, train_runs, name):
    told, losses = settings
    found = peer(name, told)
    train_runs.require_equal_work({"ours": losses, name: found["loss"]})
    assert len(found["step_s"]) == len(losses)
    assert len(Path(told.steps).read_text().splitlines()) == len(losses)
    Path(told.steps).unlink()
    assert losses[-1] < losses[0]  # the weights moved, so equal losses mean equal updates
    if name == "hf":
        assert found["optimizer"] == "DeepSpeedZeroOptimizer"


def test_other_work_is_refused(train_runs):
    with pytest.raises(RuntimeError, match=r"did not do the same work:\nstep 2: leaky 2.90000, ours 3.00000"):
        train_runs.require_equal_work({"ours": [4.0, 3.0], "leaky": [4.001, 2.9]})
    with pytest.raises(RuntimeError, match="bare took 1 steps, ours 2"):
        train_runs.require_equal_work({"ours": [4.0, 3.0], "bare": [4.0]})


def test_the_budget_ends_in_the_last_step(train_runs):
    shape = train_runs.Shape(length=512, rows=8, micro_rows=8, warmup=2, steps=6)
    for documents_per_row in (1, 4, 10):
        per_step = shape.rows * (shape.length - documents_per_row)
        assert -(-shape.budget // per_step) == 8
