"""When models may be scored beside training, and when not; scoring beside real runs is in tests/integration."""

from __future__ import annotations

import pytest

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.records import ClusterNode
from cpt_ray.study.live import beside
from cpt_ray.study.live.beside import room_beside, scoring_beside
from cpt_ray.study.stages.evaluate import EVALUATE
from cpt_ray.study.stages.train import TRAIN
from tests.study.planned import BareSession, graph_of


@pytest.fixture
def cluster_has(monkeypatch):
    """Let the cluster, or the private Ray, have so many CPUs on a machine of two cores."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(beside, "cluster_may_grow", lambda: False)
    monkeypatch.setattr(beside.os, "cpu_count", lambda: 2)
    return lambda cpus: monkeypatch.setattr(beside, "working_nodes", lambda _: [ClusterNode("a", {"CPU": cpus}, {})])


def test_scoring_gets_what_the_groups_that_are_left_cannot_need(cluster_has):
    cluster_has(6.0)
    runtime = RuntimeConfig(workers=2, evaluate_workers=4, address="head:6379")
    assert [room_beside(runtime, runs) for runs in (9, 2, 1, 0)] == [2, 2, 4, 4]
    assert room_beside(runtime.model_copy(update={"parallel_runs": 3}), 9) == 0


def test_on_a_cluster_that_grows_what_it_may_have_counts(cluster_has, monkeypatch):
    cluster_has(1.0)
    monkeypatch.setattr(beside, "cluster_may_grow", lambda: True)
    monkeypatch.setattr(beside, "nodes_at_most", lambda: [ClusterNode("a", {"CPU": 4.0}, {})] * 2)
    runtime = RuntimeConfig(workers=2, evaluate_workers=8, address="head:6379")
    assert [room_beside(runtime, runs) for runs in (9, 1)] == [2, 6]


def test_on_a_private_ray_only_cores_that_are_there_count(cluster_has):
    cluster_has(5.0)
    assert room_beside(RuntimeConfig(workers=2, evaluate_workers=4), 4) == 0
    assert room_beside(RuntimeConfig(workers=1, evaluate_workers=4), 4) == 1


def test_in_this_process_scoring_comes_after_training(tiny):
    graph = graph_of(tiny)
    session = BareSession(graph.root)
    with scoring_beside(graph.of(EVALUATE), graph.of(TRAIN), session):
        pass
    assert (session.asked_for_ray, session.committed) == (0, [])
