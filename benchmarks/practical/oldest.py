"""Run the tests with the oldest versions that `pyproject.toml` admits, in an environment of their own.

Run by `make test-oldest`. uv resolves every direct dependency of the package and its extras to the lowest version that goes
with the others (`--resolution lowest-direct`): a bound below what another dependency needs is not reached here, and said. What
these need themselves is as new as usual. torch is the lock's: an older one is a download of gigabytes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from benchmarks.measure.environments import REPOSITORY, makefile_list

EXTRAS = ("gguf", "lm-eval", "lora", "mlflow", "prepare", "ray", "s3")
TESTS = ("-m", "not full and not gpu and not slow", "-n", "2", "--dist", "loadfile", "--timeout", "600", "-q")


def bounds() -> dict[str, Version]:
    """The lower end of each direct dependency, by its canonical name.

    Raises:
        ValueError: If a dependency has none.
    """
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    found = {}
    for requirement in map(Requirement, [*project["dependencies"], *(one for extra in EXTRAS for one in extras[extra])]):
        versions = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
        if len(versions) != 1:
            raise ValueError(f"{requirement}: no lower end")
        found[canonicalize_name(requirement.name)] = versions[0]
    return found


def oldest(python: Path, torch: str) -> list[str]:
    """`name==version` of each direct dependency, the oldest that go together.

    Args:
        python: The interpreter of an environment with uv.
        torch: Its pin.
    """
    index = subprocess.run([str(python), "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True)
    where = ("--index-url", index.stdout.strip()) if index.returncode == 0 else ()
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    command = [str(python), "-m", "uv", "pip", "compile", "-q", "--no-annotate", "--no-header", "--constraint", "-", *extras]
    done = subprocess.run(
        [*command, "--resolution", "lowest-direct", *where, str(REPOSITORY / "pyproject.toml")],
        input=torch, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    lowest, pins = bounds(), []
    for requirement in map(Requirement, done.stdout.splitlines()):
        name, (pin,) = canonicalize_name(requirement.name), requirement.specifier
        if name in lowest:
            above = "" if Version(pin.version) == lowest[name] or name == "torch" else f"  (its bound is {lowest[name]})"
            print(f"{name}=={pin.version}{above}", flush=True)
            pins.append(f"{name}=={pin.version}")
    return pins


def environment(folder: Path) -> Path:
    """The interpreter of a new environment with these versions and the tools of the tests."""
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    (torch,) = (line for line in lock if line.startswith("torch=="))
    venv.create(folder / "environment", with_pip=True)
    python = folder / "environment" / "bin" / "python"
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-compile"]
    subprocess.run([*install, "uv"], check=True)
    constraint = folder / "oldest.txt"
    constraint.write_text("\n".join([torch, *oldest(python, torch)]) + "\n", encoding="utf-8")
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
