"""A path says which object it is, on any node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpt_ray.edges import store
from cpt_ray.edges.store.addresses import CACHE, url_of
from cpt_ray.errors import ArtifactError
from tests.object_store import node


def test_an_object_has_a_path_and_the_path_is_that_object(tmp_path):
    with node(tmp_path):
        path = store.mirror_of("s3://bucket/a/b") / "train" / "run.json"
        assert store.is_mirrored(path)
        assert store.address(path) == "s3://bucket/a/b/train/run.json"
        assert url_of(path.parent / ".." / "shards" / "x") == "s3://bucket/a/b/shards/x"
        assert store.here("s3://bucket/a/b/train/run.json") == path


def test_a_path_of_another_node_is_the_same_object_here(tmp_path):
    with node(tmp_path / "one"):
        one = store.mirror_of("s3://bucket/a")
    with node(tmp_path / "two"):
        two = store.here(str(one / "x"))
        assert two == store.mirror_of("s3://bucket/a") / "x"
        assert str(two).startswith(str(tmp_path / "two"))
    assert store.here(one / "x") == one / "x"  # a node that sets nothing keeps it where the driver has it


def test_an_address_in_a_record_is_looked_up_beside_what_a_task_has(tmp_path, monkeypatch):
    monkeypatch.delenv(CACHE, raising=False)
    task = store.mirror_of("s3://bucket/a/evaluate/x", str(tmp_path / "scratch"))
    export = store.here("s3://bucket/a/train/y/export", beside=task)
    assert export == store.mirror_of("s3://bucket/a", str(tmp_path / "scratch")) / "train" / "y" / "export"


def test_a_local_path_is_what_it_was(tmp_path):
    assert not store.is_mirrored(tmp_path / "x")
    assert store.address(tmp_path / "x") == str(tmp_path / "x")
    assert store.here(tmp_path / "x") == tmp_path / "x"


def test_a_mirror_is_of_this_user_only(tmp_path, monkeypatch):
    monkeypatch.delenv(CACHE, raising=False)
    store.mirror_of("s3://bucket/a", str(tmp_path))
    assert (tmp_path / f"cpt-ray-{os.getuid()}").stat().st_mode & 0o077 == 0
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / f"cpt-ray-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"cpt-ray-\d+: belongs to another user") as error:
        store.mirror_of("s3://bucket/a", str(other))
    assert "set runtime.scratch, or CPT_RAY_CACHE on the node" in error.value.fix


def test_a_cache_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with node(tmp_path / "file"), pytest.raises(ArtifactError, match="cannot hold a node's copy of the study: Not a directory"):
        store.mirror_of("s3://bucket/a")
    assert Path("/x") == store.here("/x")
