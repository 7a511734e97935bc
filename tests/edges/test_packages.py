"""Files inside installed distributions are found without importing anything."""

import sys
from pathlib import Path

import pytest

from cpt_ray.edges.packages import resolve_package
from cpt_ray.edges.source_files import list_source_files
from cpt_ray.errors import DataError


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
