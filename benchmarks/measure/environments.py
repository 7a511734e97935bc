"""Python environments for the benchmarks' peers: under the user's cache folder, without cpt-ray."""

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
