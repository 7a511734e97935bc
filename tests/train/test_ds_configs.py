"""Every file in ds_configs/ is loaded by our rules and really trains a tiny Llama one step under DeepSpeed."""

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cpt_ray.config.deepspeed import load_deepspeed, zero_stage

FOLDER = Path(__file__).parents[2] / "ds_configs"
FILES = sorted(FOLDER.glob("*.json"))
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")

# A process of its own per file: DeepSpeed's process group, ZeRO-3's hooks and the operators are global.
STEP = """
    import json, sys
    import torch, deepspeed
    from transformers import LlamaConfig, LlamaForCausalLM
    from cpt_ray.config.deepspeed import load_deepspeed, resolve_deepspeed
    from cpt_ray.config.train import TrainConfig

    train = TrainConfig(budgets=(1000,), learning_rate=1e-2, global_batch_size=2, micro_batch_size=2, deepspeed=sys.argv[1])
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64))
    config = resolve_deepspeed(load_deepspeed(sys.argv[1]), train=train, accumulation_steps=1, hidden_size=32)
    if "offload_optimizer" in config["zero_optimization"]:
        from deepspeed.ops.adam import DeepSpeedCPUAdam
        optimizer = DeepSpeedCPUAdam(model.parameters(), lr=1e-2)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    rows = torch.arange(32).reshape(2, 16)
    losses = []
    for _ in range(2):
        loss = engine(input_ids=rows, labels=rows).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss))
    print("RESULT", json.dumps({
        "stage": engine.zero_optimization_stage(), "losses": losses, "steps": engine.global_steps,
        "bf16": engine.bfloat16_enabled(), "offload": "CPUAdam" in type(optimizer).__name__,
    }))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_file_trains_a_tiny_llama_under_deepspeed(path):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DS_ACCELERATOR": "cpu",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STEP), str(path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(re.search(r"^RESULT (.*)$", ran.stdout, re.MULTILINE)[1])
    assert found["stage"] == zero_stage(load_deepspeed(path))
    assert found["bf16"]
    assert found["steps"] == 2
    assert found["losses"][1] < found["losses"][0], "the step changed nothing"
    assert found["offload"] == ("offload" in path.stem)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_file_does_what_its_name_says(path):
    tree = load_deepspeed(path)
    stage, offload = re.fullmatch(r"zero(\d)_bf16(_offload_cpu)?", path.stem).groups()
    assert zero_stage(tree) == int(stage)
    assert ("offload_optimizer" in tree["zero_optimization"]) == bool(offload)


def test_the_read_me_has_a_row_for_each_file_and_no_other_in_both_tables():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    when, measured = text.split(MARKS[0])
    assert [re.findall(r"^\| `([a-z0-9_]+\.json)` \|", part, re.MULTILINE) for part in (when, measured)] == [
        [path.name for path in FILES]
    ] * 2
    assert len(FILES) >= 4


def test_measuring_rewrites_the_table_and_nothing_else(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER.parent / "benchmarks"))
    from ds_configs import rewrite, table

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
    script = Path(__file__).parents[2] / "benchmarks" / "ds_configs.py"
    command = [sys.executable, str(script), str(tmp_path / "model"), "--length", "64", "--readme", str(readme)]
    command += ["--out", str(tmp_path / "out"), "--steps", "3"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert all(f"| `{path.name}` | " in readme.read_text() for path in FILES)
