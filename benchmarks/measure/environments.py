"""Python environments of the peers that benchmarks are compared with: under the user's cache folder, with nothing of ours."""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cpt-ray-benchmarks"


def python_with(name: str, packages: Sequence[str], *, without: Sequence[str] = ()) -> Path:
    """The interpreter of an environment, made on first use.

    Args:
        name: Its folder; another set of packages needs another name.
        packages: What pip installs, with versions.
        without: What is taken out again of what they ask for.
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
