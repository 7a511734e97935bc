"""Use cpt-ray's wheel without extras, in an environment of its own: neither Ray nor MLflow, lm-eval, rensa, ftfy or datasets.

Run by `make test-minimal` as `python -m benchmarks.practical.minimal`; prints a line a command. In: the tests' small study,
whose shards are prepared here with everything installed. In the new environment it is then checked, planned, trained, scored
and reported with `runtime.kind: local`, its text is prepared once more without the steps that need packages, and `init` says
what to install for them. A command that ends otherwise than it should, or an optional package that is installed, is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure.environments import REPOSITORY, python_with_wheel
from cpt_ray.edges.packages import OPTIONAL
from tests.integration.tiny_study import TinyStudy, write_tiny_study

_STEPS_OFF = (
    "prepare.near_duplicates.enabled=false", "prepare.clean.normalize=false", "prepare.clean.language_id.detect=never",
)  # fmt: skip
_LOOK = "import importlib.util, json, sys; print(json.dumps([one for one in sys.argv[1:] if importlib.util.find_spec(one)]))"


class Typed(NamedTuple):
    """A command, and what it must end with and say."""

    words: tuple[str, ...]
    says: str
    code: int = 0


def commands(study: TinyStudy, folder: Path) -> Iterator[Typed]:
    """What a user with this environment types, in order."""
    config, root = str(study.config), str(study.root)
    yield Typed(("--version",), "cpt-ray ")
    yield Typed(("schema",), '"$schema"')
    yield Typed(("init", str(study.inputs / "law.jsonl"), "--base", str(study.model), "--budget", "4k"), "pip install 'ftfy", 2)
    yield Typed(("check", config), "check passed")
    yield Typed(("plan", config, "--hardware", "h100"), "train")
    yield Typed(("doctor", config), "prepare.clean.normalize needs the Python package ftfy", 2)
    yield Typed(("doctor", config, *_STEPS_OFF), ", 0 fail")
    yield Typed(("status", config), "state: stopped")
    yield Typed(("train", config), "")
    yield Typed(("evaluate", config), "")
    yield Typed(("run", config), "report:")
    yield Typed(("status", root), "state: finished")
    yield Typed(("logs", root), "[driver] ")
    yield Typed(("verify", config), "")
    yield Typed(("export", config, "--to", str(folder / "hub")), str(folder / "hub"))
    yield Typed(("prepare", config, f"study.root={folder / 'again'}", *_STEPS_OFF), "separator <|endoftext|>")
    yield Typed(("check", config, "runtime.kind=ray"), "runtime.kind: ray needs the Python package ray", 2)


def environment(python: Path) -> dict[str, str]:
    """That of a shell where the new environment is activated."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TORCH_EXTENSIONS_DIR")}
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "TORCH_EXTENSIONS_DIR": str(python.parents[1] / "torch_extensions")}


def main(arguments: list[str]) -> int:
    """Make the environment, type the commands, and return 1 if one of them went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, help="the interpreter of an environment that is there already")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="minimal-") as name:
        folder = Path(name)
        python = options.python or python_with_wheel(folder, extras="", data=False)
        study = write_tiny_study(folder / "study", kind="local")
        prepare = [sys.executable, "-m", "cpt_ray.cli.main", "prepare", str(study.config)]
        subprocess.run(prepare, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        look = [str(python), "-P", "-c", _LOOK, *OPTIONAL]
        there = json.loads(subprocess.run(look, env=environment(python), check=True, capture_output=True).stdout)
        wrong = [f"{OPTIONAL[module]} is installed" for module in there]
        (folder / "here").mkdir()
        for typed in commands(study, folder):
            wrong += run(typed, python, folder / "here")
        print("\n".join(wrong) if wrong else f"as it should be, without {', '.join(sorted(set(OPTIONAL.values())))}")
    return 1 if wrong else 0


def run(typed: Typed, python: Path, folder: Path) -> list[str]:
    """Type a command, print how it ended, and return what was wrong with that."""
    started = time.perf_counter()
    command = [str(python.parent / "cpt-ray"), *typed.words]
    ran = subprocess.run(command, cwd=folder, env=environment(python), capture_output=True, text=True, check=False)
    said = ran.stdout + ran.stderr
    print(f"{ran.returncode} after {time.perf_counter() - started:5.1f} s: cpt-ray {' '.join(typed.words)}", flush=True)
    if ran.returncode == typed.code and typed.says in said:
        return []
    wanted = f"{typed.code} and {typed.says!r}"
    return [f"cpt-ray {' '.join(typed.words)}: ended with {ran.returncode}, and should with {wanted}:\n{said}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
