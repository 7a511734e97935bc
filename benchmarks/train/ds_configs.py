"""Measure peak memory and tokens per second of one worker for each file in `ds_configs/`, and rewrite its README's table.

    python -m benchmarks.train.ds_configs [MODEL_FOLDER]

Without a folder the demo's imported base is used. One process per file: two CPU threads, four rows of 512 tokens per step, one
warm-up step and `--steps` more, in turns with a process for `zero2_bf16.json` (`turns.py`), so that the ratio between two files
does not depend on when each was measured. Peak memory is that of the process, including Python and torch (about half a GB).
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
from pathlib import Path

from benchmarks.measure.record import replace_between
from benchmarks.measure.turns import Side, run_in_turns

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ds_configs"
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")
REFERENCE = "zero2_bf16.json"
ROWS, LENGTH, WARMUP, THREADS = 4, 512, 1, 2


def main() -> None:
    """Measure every file, or with `--one` a single file in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="a folder with safetensors")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ds_configs", help="folder for each process's output")
    parser.add_argument("--readme", type=Path, default=FOLDER / "README.md", help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens per row")
    parser.add_argument("--steps", type=int, default=9, help="steps after the warm-up; two of three are measured")
    arguments = parser.parse_args()
    model = arguments.model or demo_base()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        train(model, FOLDER / arguments.one, arguments)
        return
    results = {}
    for path in sorted(FOLDER.glob("*.json")):
        results[path.name] = measure(model, path.name, arguments)
        print(path.name, results[path.name], flush=True)
    text = arguments.readme.read_text(encoding="utf-8")
    arguments.readme.write_text(rewrite(text, table(results, where(model, arguments))), encoding="utf-8")


def measure(model: Path, name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one file in turns with the reference; return tokens per second, ratio to the reference and peak bytes."""
    from cpt_ray.config.sections.runtime import RuntimeConfig
    from cpt_ray.edges.ray_runtime import worker_environment

    length, out = arguments.length, arguments.out
    shape = ["--length", str(length), "--steps", str(arguments.steps)]
    environment = {**os.environ, **worker_environment(RuntimeConfig(kind="local")), "PYTHONPATH": str(ROOT)}

    def side(file: str, folder: Path) -> Side:
        folder.mkdir(parents=True, exist_ok=True)
        steps = folder / file
        steps.unlink(missing_ok=True)
        return Side(
            name=file,
            arguments=["-m", "benchmarks.train.ds_configs", str(model), "--one", file, *shape, "--out", str(folder)],
            environment=environment,
            log=folder / f"{file}.log",
            steps_done=lambda: steps.read_bytes().count(b"\n") if steps.exists() else 0,
        )

    sides = (side(name, out / "file"), side(REFERENCE, out / "reference"))
    ours, reference = run_in_turns(sides, warmup=WARMUP, steps=arguments.steps)
    peaks = (out / "file" / name).read_text(encoding="utf-8").split()
    return {
        "tokens_per_s": ROWS * length / statistics.median(ours.step_s),
        "ratio": statistics.median(b / a for a, b in zip(ours.step_s, reference.step_s, strict=True)),
        "peak_bytes": float(peaks[-1]),
    }


def demo_base() -> Path:
    """The base imported by the demo, or the same package imported now."""
    found = sorted((ROOT / "runs").glob("*/models/*/model.safetensors"))
    if found:
        return found[0].parent
    from cpt_ray.config.load import load_study
    from cpt_ray.model.base import import_base

    folder = ROOT / "runs" / "ds_configs_base"
    import_base(load_study(ROOT / "configs" / "demo.yaml").models[0], folder)
    return folder


def train(model: Path, deepspeed: Path, arguments: argparse.Namespace) -> None:
    """Train a few steps; after each, append the peak bytes of this process so far to a file."""
    length, steps = arguments.length, arguments.out / arguments.one
    from cpt_ray.edges.ray_runtime import put_interpreter_on_path

    put_interpreter_on_path()
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    import torch
    import torch.distributed as dist

    from cpt_ray.config.deepspeed import load_deepspeed
    from cpt_ray.config.sections.train import TrainConfig
    from cpt_ray.model.base import load_model
    from cpt_ray.train.engine.engine import Engine
    from cpt_ray.train.order.batches import MicroBatch

    torch.set_num_threads(THREADS)
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    train = TrainConfig(
        budgets=(1000,), learning_rate=1e-4, global_batch_size=ROWS, micro_batch_size=1, deepspeed=str(deepspeed)
    )  # fmt: skip
    engine = Engine(
        load_model(model, precision="bf16"),
        train=train,
        deepspeed=load_deepspeed(deepspeed),
        accumulation_steps=ROWS,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    ids = torch.randint(engine.lm.config.vocab_size, (length,), generator=torch.Generator().manual_seed(0))
    batches = [MicroBatch(ids, ids.roll(-1), (length,))] * ROWS
    for _ in range(WARMUP + arguments.steps):
        engine.step(1e-4, engine.accumulate(batches, loss_tokens=ROWS * length)).read()
        with steps.open("a", encoding="utf-8") as stream:
            stream.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}\n")


def where(model: Path, arguments: argparse.Namespace) -> str:
    """One line on what was measured and where."""
    import deepspeed
    import torch

    from cpt_ray.model.shape import describe_base

    return (
        f"One worker with {THREADS} threads of {platform.machine()}, "
        f"{describe_base(model).shape.parameters / 1e6:.0f}M parameters, "
        f"{ROWS} rows of {arguments.length} tokens a step, {2 * arguments.steps // 3} steps measured, "
        f"torch {torch.__version__}, DeepSpeed {deepspeed.__version__}."
    )


def table(results: dict[str, dict[str, float]], caption: str) -> str:
    """The measured table, one row per file."""
    rows = [
        f"| `{name}` | {found['tokens_per_s']:.0f} | {found['ratio']:.2f} | {found['peak_bytes'] / 2**30:.2f} GiB |"
        for name, found in sorted(results.items())
    ]
    head = f"| file | tokens/s | against `{REFERENCE}` in turns | peak memory of the process |"
    return "\n".join([caption, "", head, "|---|---|---|---|", *rows])


def rewrite(text: str, new: str) -> str:
    """Replace the text between the marks."""
    return replace_between(text, MARKS, new)


if __name__ == "__main__":
    main()
