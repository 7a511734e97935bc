"""The record of mirrored content: valid for the same content and an untouched database, never for a server."""

import os
from pathlib import Path

import pytest

from cpt_ray.edges.tracking.mirrored import Mirrored, database_of, default_uri, is_mirrored, note_mirrored


@pytest.fixture
def uri(tmp_path: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(b"rows")
    return default_uri(tmp_path)


def test_the_same_content_in_an_untouched_database_is_mirrored(tmp_path: Path, uri: str) -> None:
    assert not is_mirrored(tmp_path, uri, "a")  # nothing has been recorded yet
    note_mirrored(tmp_path, uri, "a")
    assert is_mirrored(tmp_path, uri, "a")
    assert not is_mirrored(tmp_path, uri, "b")


def test_a_database_that_was_written_to_replaced_or_deleted_is_mirrored_again(tmp_path: Path, uri: str) -> None:
    database = tmp_path / "mlflow.db"
    note_mirrored(tmp_path, uri, "a")
    os.utime(database, ns=(1, 1))
    assert not is_mirrored(tmp_path, uri, "a")
    note_mirrored(tmp_path, uri, "a")
    database.write_bytes(b"more rows")
    assert not is_mirrored(tmp_path, uri, "a")
    note_mirrored(tmp_path, uri, "a")
    database.unlink()
    assert not is_mirrored(tmp_path, uri, "a")


def test_another_database_is_not_the_one_that_was_noted(tmp_path: Path, uri: str) -> None:
    note_mirrored(tmp_path, uri, "a")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mlflow.db").write_bytes(b"rows")
    assert not is_mirrored(tmp_path, default_uri(other), "a")


def test_nothing_is_noted_of_a_tracking_server(tmp_path: Path) -> None:
    assert database_of("http://127.0.0.1:5000") is None
    note_mirrored(tmp_path, "http://127.0.0.1:5000", "a")
    assert list(tmp_path.iterdir()) == []
    assert not is_mirrored(tmp_path, "http://127.0.0.1:5000", "a")


def test_a_note_that_cannot_be_read_costs_a_mirroring_and_no_error(tmp_path: Path, uri: str) -> None:
    (tmp_path / Mirrored.FILE).write_text("{", encoding="utf-8")
    assert not is_mirrored(tmp_path, uri, "a")


@pytest.mark.parametrize("name", ["a b", "a#b", "100%25", "what?", "[x]", "caf\u00e9 \u4e2d", "it's", "a&b=c"])
def test_the_database_of_a_root_with_any_name_is_in_that_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    assert database_of(default_uri(root)) == root / "mlflow.db"


def test_options_of_a_database_are_no_part_of_its_path() -> None:
    assert database_of("sqlite:////data/mlflow.db?timeout=5") == Path("/data/mlflow.db")
