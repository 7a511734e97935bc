"""List what `.venv` holds, with licenses, as CycloneDX JSON, and prove that it is what `requirements.lock` says.

Run by `make sbom` as `python -m benchmarks.practical.sbom`; writes `build/sbom.json`. cyclonedx-bom has an environment of its
own, made on first use from the package index, because it would be in the list otherwise. Besides the lock there are pip, the
demo's model and texts, and cpt-ray itself, which the list is of. A component too many, too few or of another version is an
error.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.measure.environments import REPOSITORY, makefile_list, python_with
from cpt_ray import __version__

TOOL = "cyclonedx-bom==7.5.0"
LIST = REPOSITORY / "build" / "sbom.json"
_NOT_LOCKED = ("pip",)
_OWN = "cpt-ray"


def pinned(lines: Iterable[str]) -> dict[str, str]:
    """Name to version, of the lines of a lock."""
    found = (Requirement(text) for line in lines if (text := line.partition("#")[0].strip()))
    return {canonicalize_name(one.name): next(iter(one.specifier)).version for one in found}


def listed(tree: Mapping[str, Any]) -> dict[str, str]:
    """Name to version, of the components of a list; `+cpu` and the like say how a version was built, not which it is."""
    found = {canonicalize_name(one["name"]): str(one["version"]).partition("+")[0] for one in tree["components"]}
    return {name: version for name, version in found.items() if name not in (*_NOT_LOCKED, _OWN)}


def differences(locked: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    """What a list says and a lock does not, and the reverse."""
    for name in sorted({*locked, *found}):
        if locked.get(name) != found.get(name):
            yield f"{name}: {locked.get(name, 'nothing')} in the lock, {found.get(name, 'nothing')} in {LIST.name}"


def main() -> int:
    """Write the list, compare it with the lock, and say how many components have a license."""
    LIST.parent.mkdir(exist_ok=True)
    python = python_with(TOOL.replace("==", "-"), [TOOL])
    own = ["--pyproject", str(REPOSITORY / "pyproject.toml"), "--output-file", str(LIST)]
    subprocess.run([str(python), "-m", "cyclonedx_py", "environment", *own, sys.executable], check=True)
    tree = json.loads(LIST.read_text(encoding="utf-8"))
    tree["metadata"]["component"]["version"] = __version__  # pyproject.toml has it from the package
    LIST.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    wrong = list(differences(pinned([*lock, *makefile_list("DATA_PACKAGES")]), listed(tree)))
    licensed = sum(bool(one.get("licenses")) for one in tree["components"])
    print(f"{LIST}: {len(tree['components'])} components, {licensed} with a license")
    if wrong:
        print("\n".join(wrong), "it is not what requirements.lock says: make clean, then make setup", sep="\n")
        return 1
    print("every component is that of requirements.lock")
    return 0


if __name__ == "__main__":
    sys.exit(main())
