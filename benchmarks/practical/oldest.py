"""Run the tests with the oldest versions that `pyproject.toml` admits, in an environment of their own.

Run by `make test-oldest`. Each `>=` of the package and its extras becomes `==`; what these need themselves is resolved as
usual, so a bound that contradicts another's needs is named by pip. torch is the lock's: an older one is a download of
gigabytes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.measure.environments import REPOSITORY, makefile_list

EXTRAS = ("gguf", "lm-eval", "lora", "mlflow", "prepare", "ray", "s3")
EXCEPT = "torch"
TESTS = ("-m", "not full and not gpu and not slow", "-n", "2", "--dist", "loadfile", "--timeout", "600", "-q")


def oldest(extras: tuple[str, ...] = EXTRAS) -> Iterator[str]:
    """`name==version` of each direct dependency at its lower end.

    Raises:
        ValueError: If a dependency has no lower end.
    """
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    for requirement in map(Requirement, dict.fromkeys(named)):
        versions = [one.version for one in requirement.specifier if one.operator == ">="]
        if len(versions) != 1:
            raise ValueError(f"{requirement}: no lower end")
        yield f"{requirement.name}=={versions[0]}"


def environment(folder: Path) -> Path:
    """The interpreter of a new environment with these versions and the tools of the tests."""
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lock if line.startswith(f"{EXCEPT}==")]
    pinned += [one for one in oldest() if not one.startswith(f"{EXCEPT}==")]
    constraint = folder / "oldest.txt"
    constraint.write_text("\n".join(pinned) + "\n", encoding="utf-8")
    print("\n".join(pinned), flush=True)
    venv.create(folder / "environment", with_pip=True)
    python = folder / "environment" / "bin" / "python"
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-compile"]
    subprocess.run([*install, "--constraint", str(constraint), *makefile_list("BUILD_PACKAGES")], check=True)
    wanted = f"{REPOSITORY}[{','.join(EXTRAS)},dev]"
    subprocess.run([*install, "--constraint", str(constraint), "--no-build-isolation", "--editable", wanted], check=True)
    subprocess.run([*install, "--no-deps", *makefile_list("DATA_PACKAGES")], check=True)
    return python


def main() -> int:
    """Make the environment, run the tests, return their exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="*", help="arguments of pytest instead of the quick tests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oldest-") as name:
        python = environment(Path(name))
        path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path, "TORCH_EXTENSIONS_DIR": f"{name}/torch_extensions"}
        return subprocess.run(
            [str(python), "-m", "pytest", *(options.tests or TESTS)], cwd=REPOSITORY, env=variables
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
