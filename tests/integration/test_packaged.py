"""The source distribution, and the wheel that is built from it: they hold what the package needs outside a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from cpt_ray import __version__
from cpt_ray.config.load import load_study
from tests.cli.init.messy import write_base, write_general, write_messy
from tests.integration.tiny_study import REPOSITORY

DATA = {
    f"cpt_ray/{folder}/{file.name}"
    for folder, pattern in (
        (".", "py.typed"), ("cli", "demo.yaml"), ("cli/init/templates", "*"), ("config/reference", "introduction.md"),
        ("config/reference/ds_configs", "*.json"), ("plan/profiles", "*.yaml"), ("report/templates", "*"),
    )
    for file in (REPOSITORY / "cpt_ray" / folder).glob(pattern)
}  # fmt: skip
DATA = {name.replace("/./", "/") for name in DATA}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Both, made as `make dist` makes them, of a copy: setuptools leaves its own folders in the tree."""
    folder = tmp_path_factory.mktemp("built")
    for name in ("cpt_ray", "ds_configs", "configs"):
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (source,), (wheel,) = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return source, wheel


def test_both_hold_every_module_and_file_of_the_package_and_neither_has_anything_else(built):
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "cpt_ray").rglob("*.py")}
    assert len(DATA) > 20
    assert len(modules) > 300
    with tarfile.open(built[0]) as source:
        regular = {member.name.partition("/")[2] for member in source.getmembers() if member.isfile()}
    assert {name for name in regular if name.startswith("cpt_ray/")} == modules | DATA
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= regular
    with zipfile.ZipFile(built[1]) as wheel:
        assert {name for name in wheel.namelist() if not name.startswith("cpt_ray-")} == modules | DATA
        (license_file,) = (name for name in wheel.namelist() if name.endswith("/LICENSE"))
        assert wheel.read(license_file) == (REPOSITORY / "LICENSE").read_bytes()


def test_the_version_is_in_one_place_and_everywhere_the_same(built):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert "version" in project["dynamic"]
    assert [path.name.split("-")[1].removesuffix(".tar.gz") for path in built] == [__version__, __version__]
    assert str(yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))["version"]) == __version__


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    """Type a command in a folder, with the unpacked wheel instead of the checkout."""
    installed = tmp_path_factory.mktemp("wheel")
    shutil.unpack_archive(built[1], installed, "zip")
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def run(folder: Path, *words: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-P", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    assert run(installed, "-c", "import cpt_ray; print(cpt_ray.__file__)").startswith(str(installed))
    return run


CPT_RAY = ("-m", "cpt_ray.cli.main")


@pytest.mark.slow
@pytest.mark.full
def test_what_a_new_user_types_first_works_in_an_empty_folder(unpacked, tmp_path):
    here = tmp_path / "empty"
    here.mkdir()
    assert "dry run: nothing was changed under runs/demo" in unpacked(here, *CPT_RAY, "demo", "--dry-run")
    assert '"$schema"' in unpacked(here, *CPT_RAY, "schema")
    assert list(here.iterdir()) == []
    write_messy(here / "own")
    write_general(here / "general")
    write_base(here / "base")
    said = unpacked(here, *CPT_RAY, "init", "own", "--base", "base", "--general", "general", "--hours", "0.5")
    assert "check passed" in said
    assert "check passed" in unpacked(here, *CPT_RAY, "check", "study.yaml")
    assert "h100" in unpacked(here, *CPT_RAY, "plan", "study.yaml", "--hardware", "h100").lower()
    assert load_study(here / "study.yaml").train.deepspeed.startswith("ds_configs/")
