"""Each gate passes on the tree as is, and a planted failure makes it fail."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = [contract["name"] for contract in CONFIG["tool"]["importlinter"]["contracts"]]

# Contract -> a file, and the forbidden line to plant in it.
PLANTED = {
    "Doors open one way": ("cpt_ray/records/base.py", "import cpt_ray.config.values"),
    "Ray only where Ray is the point": ("cpt_ray/compare/__init__.py", "import ray.data"),
    "DeepSpeed only in the engine and the checkpoint": ("cpt_ray/model/__init__.py", "import deepspeed"),
    "MLflow only in tracking": ("cpt_ray/report/__init__.py", "import mlflow"),
    "lm-eval only in the harness": ("cpt_ray/data/__init__.py", "import lm_eval"),
    "Optional packages only where they are needed": ("cpt_ray/study/__init__.py", "import ftfy"),
    "Stages do not know their neighbors": ("cpt_ray/data/clean/__init__.py", "import cpt_ray.data.dedup"),
}


def run(folder, *command):
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder), "NO_COLOR": "1"}
    ran = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=folder, env=environment, capture_output=True, text=True)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def copy_of_the_tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "cpt_ray", folder / "cpt_ray", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint_imports(folder):
    return run(folder, "lint-imports", "--no-cache")


def test_doors_open_one_way(copy_of_the_tree):
    code, output = lint_imports(copy_of_the_tree)
    assert code == 0, output
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in output


def test_every_contract_has_a_planted_violation():
    assert sorted(PLANTED) == sorted(CONTRACTS)


@pytest.mark.parametrize("contract", PLANTED)
def test_a_planted_violation_breaks_its_contract_and_no_other(copy_of_the_tree, contract):
    name, line = PLANTED[contract]
    path = copy_of_the_tree / name
    right = path.read_text(encoding="utf-8")
    try:
        path.write_text(f"{right}\n{line}\n", encoding="utf-8")
        code, output = lint_imports(copy_of_the_tree)
    finally:
        path.write_text(right, encoding="utf-8")
    assert code != 0, f"{line} in {name} went unnoticed"
    assert re.findall(r"^(.+) BROKEN", output, re.MULTILINE) == [contract]


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        ('"""Doc."""\n\nimport os\n', "F401"),
        ("import os\n\nprint(os.sep)\n", "D100"),
        ('"""Doc."""\n\n\ndef f(a):\n    """Do."""\n    return a\n', "ANN001"),
        ('"""Doc."""\n\n\ndef f(*, a: int) -> int:\n    """Do."""\n    assert a\n    return a\n', "S101"),
        ('"""Doc."""\n\nprint(1)\n', "T201"),
    ],
)
def test_the_linter_bites(copy_of_the_tree, planted, rule):
    path = copy_of_the_tree / "cpt_ray" / "planted.py"
    try:
        path.write_text(planted, encoding="utf-8")
        code, output = run(copy_of_the_tree, "ruff", "check", "--no-cache", "cpt_ray/planted.py")
    finally:
        path.unlink()
    assert code == 1
    assert rule in output


def test_the_formatter_bites(copy_of_the_tree):
    path = copy_of_the_tree / "cpt_ray" / "planted.py"
    try:
        path.write_text("x = {  'a':1 }\n", encoding="utf-8")
        code, output = run(copy_of_the_tree, "ruff", "format", "--no-cache", "--check", "cpt_ray/planted.py")
    finally:
        path.unlink()
    assert code == 1
    assert "cpt_ray/planted.py" in output
    assert "1 file would be reformatted" in output


def test_the_type_checker_bites(copy_of_the_tree, tmp_path):
    # One small file under the project's settings: the whole package takes a minute without a cache.
    settings = (copy_of_the_tree / "pyproject.toml").read_text(encoding="utf-8").replace('packages = ["cpt_ray"]\n', "")
    (tmp_path / "pyproject.toml").write_text(settings.replace('plugins = ["pydantic.mypy"]\n', ""), encoding="utf-8")
    (tmp_path / "planted.py").write_text("def f(a: int) -> str:\n    return a\n\n\ndef g(a):\n    return a\n", encoding="utf-8")
    (tmp_path / "right.py").write_text("def f(a: int) -> str:\n    return str(a)\n", encoding="utf-8")
    code, output = run(tmp_path, "mypy", "planted.py")
    assert code == 1
    assert "[return-value]" in output
    assert "[no-untyped-def]" in output, "mypy is not strict"
    assert run(tmp_path, "mypy", "right.py")[0] == 0


def test_a_failing_test_fails_pytest(tmp_path):
    (tmp_path / "test_planted.py").write_text("def test_wrong():\n    raise AssertionError\n", encoding="utf-8")
    code, output = run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "test_planted.py")
    assert code == 1
    assert "1 failed" in output.splitlines()[-1]


def test_an_unknown_marker_is_refused(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "test_planted.py").write_text("import pytest\n\n@pytest.mark.slwo\ndef test_a():\n    pass\n", encoding="utf-8")
    code, output = run(tmp_path, "pytest", "test_planted.py")
    assert code != 0
    assert "'slwo' not found in `markers`" in output


COMMANDS = [
    "ruff check .",
    "ruff format --check .",
    "mypy",
    "lint-imports",
    'python -m pytest -n 2 --dist loadfile --max-worker-restart 0 --timeout 600 -m "not full and not gpu"',
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_gate_is_the_same_command_wherever_it_is_named(command):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert f"\t@$(BIN)/{command}\n" in makefile
    assert f"entry: .venv/bin/{command}\n" in hooks
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^make gates$", ci, re.MULTILINE)
    assert re.search(r"^make --silent test ", ci, re.MULTILINE)
    assert re.search(r"^gates: lint types imports ", makefile, re.MULTILINE)


def test_ci_can_be_executed():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
