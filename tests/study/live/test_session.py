"""A session holds the lease, logs its steps, and commits exactly what was built."""

from __future__ import annotations

import logging
import os

import pytest

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges import ray_runtime
from cpt_ray.edges.lease import read_lease
from cpt_ray.errors import ArtifactError, LeaseError
from cpt_ray.study import store
from cpt_ray.study.live import session as session_module
from cpt_ray.study.live.session import Session
from cpt_ray.study.stages.stage import Planned, Stage, one_by_one
from tests.study.planned import Lines


def make_session(root):
    return Session(root, RuntimeConfig(kind="local"), Lines(), lambda node: lambda steps: None)


def toy(root, **changes):
    stage = Stage("toys", 1, "prepare", lambda graph: (), one_by_one(lambda node, session: None), None, ("*",), **changes)
    return store.locate(root, stage, Planned("bear", inputs={}, settings={}, work=None))


def test_one_driver_at_a_time_and_the_next_has_another_attempt(tmp_path):
    with make_session(tmp_path) as first:
        assert read_lease(first.lease_path).attempt == first.attempt == 1
        with pytest.raises(LeaseError), make_session(tmp_path):
            pass
    with make_session(tmp_path) as second:
        assert second.attempt == 2
    assert read_lease(tmp_path / "lease.json").released


def test_what_is_built_is_committed_and_reused_by_the_next(tmp_path):
    node = toy(tmp_path)
    with make_session(tmp_path) as session:
        assert session.reuse(node) is None
        with session.building(node):
            (node.folder / "toy.txt").write_text("bear")
        assert session.console.said == [f"  made    {node.label}  in 0 s"]
    with make_session(tmp_path) as session:
        assert [entry.path for entry in session.reuse(node).files] == ["toy.txt"]
        assert session.console.said == [f"  reused  {node.label}  (made in 0 s)"]


def test_what_lacks_something_is_built_again_by_the_next_command_and_not_twice_by_one(tmp_path):
    node = toy(tmp_path, lacks=lambda node: not (node.folder / "ear.txt").exists())
    for _ in range(2):
        with make_session(tmp_path) as session:
            assert session.reuse(node) is None
            with session.building(node):
                (node.folder / "toy.txt").write_text("bear")
            assert session.reuse(node) is not None
            assert store.exists(node)
            assert not store.is_whole(node)
    with make_session(tmp_path) as session:
        assert session.reuse(node) is None
        assert session.console.said == [f"  again   {node.label}, which lacks something"]
        store.withdraw(node)
        assert not store.exists(node)
        with session.building(node):
            (node.folder / "ear.txt").write_text("left")
    with make_session(tmp_path) as session:
        assert store.is_whole(node)
        assert session.reuse(node) is not None


def test_what_fails_is_not_committed_and_the_log_says_why(tmp_path):
    node = toy(tmp_path)
    with pytest.raises(OSError, match="disk full"), make_session(tmp_path) as session, session.building(node):
        raise OSError("disk full")
    assert not store.exists(node)
    log = (tmp_path / "logs" / "driver.log").read_text()
    assert "attempt 1: " in log
    assert "OSError: disk full" in log
    assert f"made {node.label}" not in log


def test_a_stage_may_refuse_to_be_reused(tmp_path):
    def refuse(_):
        raise ArtifactError("it has changed", fix="build it again")

    node = toy(tmp_path, reuse_check=refuse)
    with make_session(tmp_path) as session:
        with session.building(node):
            pass
        with pytest.raises(ArtifactError, match="it has changed"):
            session.reuse(node)


def test_warnings_of_libraries_reach_the_console_and_the_log(tmp_path):
    with make_session(tmp_path) as session:
        logging.getLogger("a.library").warning("the disk of %s is full", "node-1")
        logging.getLogger("a.library").info("nothing to see")
    assert session.console.said == ["the disk of node-1 is full"]
    log = (tmp_path / "logs" / "driver.log").read_text()
    assert "WARNING a.library: the disk of node-1 is full" in log
    assert "INFO a.library: nothing to see" in log


def test_ray_starts_once_and_ends_with_the_session(tmp_path, monkeypatch):
    events = []

    class Started:
        def __init__(self, runtime):
            pass

        def __enter__(self):
            events.append("start")

        def __exit__(self, *_):
            events.append("end")

    monkeypatch.setattr(ray_runtime, "ray_session", Started)
    with make_session(tmp_path) as session:
        assert events == []
        session.need_ray()
        session.need_ray()
        assert events == ["start"]
    assert events == ["start", "end"]


def test_units_are_prepared_by_one_pool_that_ends_with_the_session_and_needs_no_ray(tmp_path):
    with make_session(tmp_path) as session:
        pool = session.unit_pool()
        assert session.unit_pool() is pool
        assert pool.submit(os.getpid).result() != os.getpid()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(os.getpid)


def test_with_ray_its_workers_prepare_units(tmp_path, monkeypatch):
    monkeypatch.setattr(Session, "need_ray", lambda session: started.append("ray"))
    started: list[str] = []
    with Session(tmp_path, RuntimeConfig(), Lines(), lambda node: lambda steps: None) as session:
        assert session.unit_pool() is None
    assert started == ["ray"]


def test_a_driver_that_was_superseded_commits_nothing(tmp_path):
    node = toy(tmp_path)
    with make_session(tmp_path) as session:
        write_lease(session.lease_path, attempt=2)
        with pytest.raises(LeaseError, match=r"attempt 1 may no longer write: .* is held by attempt 2"), session.building(node):
            (node.folder / "toy.txt").write_text("bear")
    assert not store.exists(node)


def test_what_fails_after_the_lease_was_taken_leaves_the_study_free(tmp_path, monkeypatch):
    def refuse(_):
        raise ArtifactError("no right to list", fix="ask for it")

    monkeypatch.setattr(session_module.lines, "publish", refuse)
    session = make_session(tmp_path)
    with pytest.raises(ArtifactError, match="no right to list"):
        session.__enter__()
    assert read_lease(session.lease_path).released


def write_lease(path, **changes):
    path.write_text(read_lease(path).model_copy(update=changes).to_json())
