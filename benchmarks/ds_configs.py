"""Measures each file of `ds_configs/`: peak memory and tokens per second of one worker, and rewrites the table of its README.

    python benchmarks/ds_configs.py [MODEL_FOLDER]

Without a folder the demo's imported base is used. A process per file: two CPU threads, four rows of 512 tokens a step, one step
to warm up and three measured. Peak memory is the process's own, so it holds Python and torch (about half a gigabyte) as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "ds_configs"
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")
ROWS, LENGTH, STEPS, THREADS = 4, 512, 3, 2


def main() -> None:
    """Measure every file, or with `--one` a single one in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="a folder with safetensors")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--readme", type=Path, default=FOLDER / "README.md", help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a row")
    arguments = parser.parse_args()
    model = arguments.model or demo_base()
    if arguments.one:
        print("RESULT", json.dumps(measure(model, FOLDER / arguments.one, arguments.length)))
        return
    results = {}
    for path in sorted(FOLDER.glob("*.json")):
        command = [sys.executable, __file__, str(model), "--one", path.name, "--length", str(arguments.length)]
        ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        found = re.search(r"^RESULT (.*)$", ran.stdout, re.MULTILINE)
        if ran.returncode or not found:
            sys.exit(f"{path.name} failed:\n{ran.stderr[-2000:]}")
        results[path.name] = json.loads(found[1])
        print(path.name, results[path.name])
    text = arguments.readme.read_text(encoding="utf-8")
    arguments.readme.write_text(rewrite(text, table(results, where(model, arguments.length))), encoding="utf-8")


def demo_base() -> Path:
    """The base that the demo imported, or one imported now from the same package."""
    found = sorted((ROOT / "runs").glob("*/models/*/model.safetensors"))
    if found:
        return found[0].parent
    from cpt_ray.config.load import load_study
    from cpt_ray.model.base import import_base

    folder = ROOT / "runs" / "ds_configs_base"
    import_base(load_study(ROOT / "configs" / "demo.yaml").models[0], folder)
    return folder


def measure(model: Path, deepspeed: Path, length: int) -> dict[str, float]:
    """Train a few steps; returns tokens per second and peak bytes."""
    from cpt_ray.config.runtime import RuntimeConfig
    from cpt_ray.edges.ray_runtime import put_interpreter_on_path, worker_environment

    put_interpreter_on_path()
    environment = worker_environment(RuntimeConfig(kind="local"))
    if "GLIBC_TUNABLES" in environment and "GLIBC_TUNABLES" not in os.environ:
        # Read by glibc when a process starts: as workers of a study have it.
        os.environ |= environment
        os.execv(sys.executable, [sys.executable, *sys.argv])
    os.environ |= environment | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    import torch
    import torch.distributed as dist

    from cpt_ray.config.deepspeed import load_deepspeed
    from cpt_ray.config.train import TrainConfig
    from cpt_ray.model.base import load_model
    from cpt_ray.train.batches import MicroBatch
    from cpt_ray.train.engine import Engine

    torch.set_num_threads(THREADS)
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    train = TrainConfig(
        budgets=(1000,), learning_rate=1e-4, global_batch_size=ROWS, micro_batch_size=1, deepspeed=str(deepspeed)
    )  # fmt: skip
    engine = Engine(
        load_model(model, precision="bf16"),
        train=train,
        deepspeed_json=load_deepspeed(deepspeed),
        accumulation_steps=ROWS,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    ids = torch.randint(engine.lm.config.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
    batches = [MicroBatch(ids, ids.roll(-1), (length,))] * ROWS
    seconds = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        engine.accumulate(batches, loss_tokens=ROWS * length)
        engine.step(1e-4)
        seconds.append(time.perf_counter() - start)
    return {
        "tokens_per_s": ROWS * length * STEPS / sum(seconds[1:]),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def where(model: Path, length: int) -> str:
    """One line on what was measured and on what."""
    import deepspeed
    import torch

    from cpt_ray.model.parameters import model_shape

    return (
        f"One worker with {THREADS} threads of {platform.machine()}, {model_shape(model).parameters / 1e6:.0f}M parameters, "
        f"{ROWS} rows of {length} tokens a step, torch {torch.__version__}, DeepSpeed {deepspeed.__version__}."
    )


def table(results: dict[str, dict[str, float]], caption: str) -> str:
    """The measured table, a row per file."""
    rows = [
        f"| `{name}` | {found['tokens_per_s']:.0f} | {found['peak_bytes'] / 2**30:.2f} GiB |"
        for name, found in sorted(results.items())
    ]
    return "\n".join([caption, "", "| file | tokens/s | peak memory of the process |", "|---|---|---|", *rows])


def rewrite(text: str, new: str) -> str:
    """Replace what stands between the marks."""
    begin, end = (text.index(mark) for mark in MARKS)
    return f"{text[: begin + len(MARKS[0])]}\n{new}\n{text[end:]}"


if __name__ == "__main__":
    main()
