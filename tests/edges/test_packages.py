"""Optional packages are looked up, named and not imported; files inside installed distributions are found the same way."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest

from cpt_ray import __version__
from cpt_ray.edges import packages
from cpt_ray.edges.packages import needed_for, resolve_package
from cpt_ray.edges.source_files import list_source_files
from cpt_ray.errors import ConfigError, DataError


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """An installed distribution whose import would fail."""
    (tmp_path / "texts_for_test").mkdir()
    (tmp_path / "texts_for_test" / "__init__.py").write_text("raise ImportError('never import me')")
    (tmp_path / "texts_for_test" / "a.txt").write_text("a")
    metadata = tmp_path / "texts_for_test-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: texts-for-test\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_package_uri_becomes_a_local_path_without_an_import(distribution):
    assert resolve_package("package://texts-for-test/texts_for_test/*.txt") == f"{distribution}/texts_for_test/*.txt"
    assert "texts_for_test" not in sys.modules


def test_every_link_of_a_chain_is_resolved(distribution):
    chain = "zip://x.csv::package://texts-for-test/texts_for_test/a.zip"
    assert resolve_package(chain) == f"zip://x.csv::{distribution}/texts_for_test/a.zip"


@pytest.mark.parametrize("uri", ["/data/*.txt", "s3://bucket/x", "zip://a::/b.zip", "relative/path"])
def test_anything_else_passes_unchanged(uri):
    assert resolve_package(uri) == uri


def test_a_source_lists_files_of_a_package(distribution):
    files = list_source_files("package://texts-for-test/texts_for_test/*.txt")
    assert [(Path(path).name, size) for path, size, _ in files] == [("a.txt", 1)]


def test_a_package_that_is_not_installed_is_named_with_the_command():
    with pytest.raises(DataError, match="'no-such-thing' is not installed here") as caught:
        resolve_package("package://no-such-thing/a.txt")
    assert caught.value.fix == "pip install --no-deps no-such-thing, on every node"


@pytest.mark.parametrize("uri", ["package://", "package:///x", "zip://a::package://"])
def test_a_uri_without_a_distribution_is_refused(uri):
    with pytest.raises(DataError, match="is not installed here"):
        resolve_package(uri)


ROOT = Path(__file__).parents[2]


def absent(monkeypatch, *modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def test_an_optional_package_is_looked_up_and_not_imported(distribution, monkeypatch):
    assert packages.is_installed("texts_for_test")
    assert "texts_for_test" not in sys.modules
    absent(monkeypatch, "rensa")
    assert not packages.is_installed("rensa")
    assert not packages.is_installed("no_such_module_anywhere")


def test_a_missing_one_is_named_with_the_setting_and_the_command(monkeypatch):
    absent(monkeypatch, "ftfy")
    with (
        pytest.raises(ConfigError, match=r"prepare\.clean\.normalize needs the Python package ftfy, which is not") as caught,
        needed_for("prepare.clean.normalize"),
    ):
        import ftfy  # noqa: F401
    assert caught.value.fix == "pip install 'ftfy>=6.3'"


def test_other_missing_modules_are_a_defect_of_theirs():
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"), needed_for("a setting"):
        import no_such_module_anywhere  # noqa: F401


def test_every_optional_package_is_in_an_extra_and_in_no_other_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines}
    for module, name in packages.OPTIONAL.items():
        assert module == "fasttext" or any(line.startswith(name) for line in extras), module
        assert not any(line.split(">")[0].split("[")[0] == name for line in project["dependencies"]), module


def test_what_is_installed_is_in_the_versions_that_cpt_ray_works_with(monkeypatch):
    declared = ["torch>=2.11", 'lm-eval<0.5,>=0.4.13; extra == "lm-eval"', 'ray[data,train]<2.61,>=2.60; extra == "ray"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: declared)
    assert packages.install_command("lm_eval", "ray") == "pip install 'lm-eval<0.5,>=0.4.13' 'ray[data,train]<2.61,>=2.60'"

    def unknown(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", unknown)
    assert packages.install_command("lm_eval") == "pip install 'lm-eval'"


def test_versions_leave_out_what_is_absent_and_know_cpt_ray_in_a_checkout(monkeypatch):
    found = packages.versions("cpt-ray", "torch", "no-such-thing")
    assert found == {"cpt-ray": __version__, "torch": importlib.metadata.version("torch")}

    def unknown(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    assert packages.versions("cpt-ray", "torch") == {"cpt-ray": __version__}
