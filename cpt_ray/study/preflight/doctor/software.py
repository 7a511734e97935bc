"""Python, packages against the bounds of `pyproject.toml`, the C++ compiler, DeepSpeed's operators, torch and the driver.

Out: findings. Nothing is imported but the names of files and the metadata of distributions; `doctor --step` runs it all.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from cpt_ray.config.devices import choose_device
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.device import read_device
from cpt_ray.edges.ray_runtime import operator_environment
from cpt_ray.errors import ConfigError
from cpt_ray.records import Finding

_DISTRIBUTION = "cpt-ray"
_OLDEST_PYTHON = (3, 11)
_GIB = 1 << 30
CPU_ADAM = "cpu_adam.so"
"""The file that DeepSpeed's optimizer for the host is built to, which training with an offloaded optimizer loads."""


def check_software() -> Iterator[Finding]:
    """All checks of what is installed."""
    yield check_python()
    yield from check_packages(_requirements())
    compiler = find_compiler()
    yield check_compiler(compiler)
    yield check_operators(operator_folder(), can_build=compiler is not None)
    yield check_device()


def check_python() -> Finding:
    """The interpreter."""
    version = platform.python_version()
    if tuple(map(int, version.split(".")[:2])) < _OLDEST_PYTHON:
        return Finding("Python", version, "fail", "install Python 3.11, and cpt-ray in an environment of it")
    return Finding("Python", version)


def _requirements() -> list[str] | None:
    try:
        return importlib.metadata.requires(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_packages(lines: Iterable[str] | None) -> Iterator[Finding]:
    """Installed versions against bounds: a finding for all that fit, and one for each that does not.

    Args:
        lines: Requirements as a distribution states them; None if it is not installed.
    """
    if lines is None:
        yield Finding("packages", "cpt-ray runs from a checkout and is not installed", "warn", "pip install -e '.[all]'")
        return
    fitting, absent = 0, []
    for requirement in _parsed(lines):
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        version = _version(requirement.name)
        asked = f"{requirement.name}{requirement.specifier}"
        if version is not None and requirement.specifier.contains(version, prereleases=True):
            fitting += 1
        elif version is not None:
            yield Finding("packages", f"{requirement.name} {version}, needs {asked}", "fail", f"pip install '{asked}'")
        elif optional:
            absent.append(requirement.name)
        else:
            yield Finding("packages", f"{requirement.name} is missing", "fail", f"pip install '{asked}'")
    left = f"; not installed, and needed by some settings only: {', '.join(sorted(set(absent)))}" if absent else ""
    yield Finding("packages", f"{fitting} within their bounds{left}")


def _parsed(lines: Iterable[str]) -> Iterator[Requirement]:
    seen = set()
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        # `all` names the others by cpt-ray's own extras, and what is for developers says nothing of a user's machine.
        developers = requirement.marker is not None and requirement.marker.evaluate({"extra": "dev"})
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        if requirement.name != _DISTRIBUTION and not (optional and developers) and requirement.name not in seen:
            seen.add(requirement.name)
            yield requirement


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_compiler() -> str | None:
    """The C++ compiler that torch would call."""
    return shutil.which(os.environ.get("CXX", "c++"))


def check_compiler(path: str | None) -> Finding:
    """The compiler that builds DeepSpeed's operators."""
    if path is None:
        named = os.environ.get("CXX", "c++")
        return Finding("C++ compiler", f"{named} is not on PATH", "warn", "sudo apt-get install g++  (or your system's)")
    return Finding("C++ compiler", path)


def operator_folder() -> Path:
    """Where DeepSpeed's operators are built, in the environment that training gets."""
    name = "TORCH_EXTENSIONS_DIR"
    chosen = os.environ.get(name) or operator_environment().get(name)
    return Path(chosen) if chosen else Path.home() / ".cache" / "torch_extensions"


def check_operators(folder: Path, *, can_build: bool) -> Finding:
    """DeepSpeed's CPUAdam, which an optimizer in the memory of the host needs: built, or to be built when a run first needs it.

    Args:
        folder: Where it is built.
        can_build: Whether there is a compiler.
    """
    what = "DeepSpeed operators"
    if any(folder.rglob(CPU_ADAM)):
        return Finding(what, f"CPUAdam in {folder}")
    if can_build:
        return Finding(what, "CPUAdam is not built; the first run whose optimizer is offloaded builds it, half a minute")
    found = f"CPUAdam is not built in {folder}, and cannot be: no optimizer can be offloaded"
    return Finding(what, found, "warn", "sudo apt-get install g++")


def check_device(runtime: RuntimeConfig | None = None) -> Finding:
    """Torch's build, the GPU and its driver; without a study, whether they fit each other if a GPU is there."""
    facts = read_device(ask_torch=False)
    if not facts.torch:
        return Finding("device", "torch is not installed", "fail", "pip install torch")
    card = "no GPU" if facts.card is None else f"{facts.card}, driver {facts.driver or 'unknown'}"
    memory = f", {facts.memory_bytes / _GIB:.1f} GiB" if facts.memory_bytes else ""
    try:
        choose_device(runtime or RuntimeConfig(kind="local"), facts)
    except ConfigError as error:
        return Finding("device", error.problem, "fail", error.fix)
    return Finding("device", f"{facts.torch_build}; {card}{memory}")
