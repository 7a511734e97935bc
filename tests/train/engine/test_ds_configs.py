"""Every file in ds_configs/ passes our checks and trains a tiny Llama under DeepSpeed."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cpt_ray.config.deepspeed import load_deepspeed
from tests.train.engine.zero_cases import write_model

FOLDER = Path(__file__).parents[3] / "ds_configs"
FILES = sorted(FOLDER.glob("*.json"))
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")


def train_two_steps(model: str, path: str) -> dict[str, Any]:
    """Train a tiny Llama with the file, in a process of a group; the same row twice."""
    import torch

    from cpt_ray.config.sections.train import TrainConfig
    from cpt_ray.model.base import load_model
    from cpt_ray.train.engine.engine import Engine
    from cpt_ray.train.order.batches import MicroBatch

    engine = Engine(
        load_model(model, precision="bf16"),
        train=TrainConfig(budgets=(1000,), learning_rate=1e-2, global_batch_size=1, micro_batch_size=1, deepspeed=path),
        deepspeed=load_deepspeed(Path(path)),
        accumulation_steps=1,
        device=torch.device("cpu"),
    )
    row = torch.arange(32)
    losses = []
    for _ in range(2):
        loss = engine.accumulate([MicroBatch(row, row.roll(-1), (32,))], loss_tokens=32)
        losses.append(engine.step(1e-2, loss).read()[0])
    optimizer = engine._engine.optimizer
    found = {
        "stage": engine._engine.zero_optimization_stage(),
        "bf16": engine._engine.bfloat16_enabled(),
        "steps": engine._engine.global_steps,
        "offload": "CPUAdam" in type(getattr(optimizer, "optimizer", optimizer)).__name__,
        "losses": losses,
    }
    engine.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_file_trains_a_tiny_llama_under_deepspeed(zero_groups, tmp_path, path):
    model = write_model(tmp_path / "model", tied=True)
    (found,) = zero_groups.of(1).run(train_two_steps, str(model), str(path))
    assert found["stage"] == load_deepspeed(path).zero_stage
    assert found["bf16"]
    assert found["steps"] == 2
    assert found["losses"][1] < found["losses"][0], "the step changed nothing"
    assert found["offload"] == ("offload" in path.stem)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_file_does_what_its_name_says(path):
    config = load_deepspeed(path)
    stage, offload = re.fullmatch(r"zero(\d)_bf16(_offload_cpu)?", path.stem).groups()
    assert config.zero_stage == int(stage)
    assert ("offload_optimizer" in config.tree["zero_optimization"]) == bool(offload)


def test_the_read_me_has_a_row_for_each_file_and_no_other_in_both_tables():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    when, measured = text.split(MARKS[0])
    assert [re.findall(r"^\| `([a-z0-9_]+\.json)` \|", part, re.MULTILINE) for part in (when, measured)] == [
        [path.name for path in FILES]
    ] * 2
    assert len(FILES) >= 4


def test_measuring_rewrites_the_table_and_nothing_else():
    from benchmarks.train.ds_configs import rewrite, table

    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    results = {path.name: {"tokens_per_s": 123.4, "ratio": 0.5, "peak_bytes": 2**30} for path in FILES}
    new = rewrite(text, table(results, "One worker."))
    assert new.count("| 123 | 0.50 | 1.00 GiB |") == len(FILES)
    assert new.split(MARKS[0])[0] == text.split(MARKS[0])[0]
    assert new.split(MARKS[1])[1] == text.split(MARKS[1])[1]
    assert rewrite(new, table(results, "One worker.")) == new


@pytest.mark.full
def test_the_benchmark_runs_on_a_tiny_model(tmp_path):
    from tests.evaluate.tiny import build_model

    build_model(100).save_pretrained(tmp_path / "model")
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(MARKS))
    command = [
        sys.executable,
        "-m",
        "benchmarks.train.ds_configs",
        str(tmp_path / "model"),
        "--length",
        "64",
        "--readme",
        str(readme),
    ]
    command += ["--out", str(tmp_path / "out"), "--steps", "3"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert all(f"| `{path.name}` | " in readme.read_text() for path in FILES)
