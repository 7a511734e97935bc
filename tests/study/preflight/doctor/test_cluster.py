"""Every node of a cluster, with what is wrong on it."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.records import ClusterNode, Finding
from cpt_ray.study.preflight.doctor import cluster
from cpt_ray.study.preflight.doctor.cluster import check_cluster
from cpt_ray.study.preflight.node_probe import AskedNode
from cpt_ray.study.preflight.nodes import Problem


def test_a_private_ray_has_this_machine_only(tiny, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert list(check_cluster(load_study(tiny.config))) == []
    (only,) = check_cluster(load_study(tiny.config, ("runtime.kind=ray",)))
    assert only.found == "a private Ray: this machine is the only node"


def test_what_is_wrong_on_a_node_is_named_after_it(tiny, monkeypatch):
    from cpt_ray.edges import ray_runtime
    from cpt_ray.study.preflight import node_probe, nodes

    none = ClusterNode("", {}, {})
    names = ("a 10.0.0.1", "b 10.0.0.2")
    asked = [AskedNode(name, cpus=4, gpus=0, facts=None, skew_s=0.0, node=none) for name in names]
    monkeypatch.setattr(cluster, "cluster_address", lambda runtime: "auto")
    monkeypatch.setattr(ray_runtime, "ray_session", lambda runtime: monkeypatch.context())
    monkeypatch.setattr(nodes, "judge_nodes", lambda *_, **__: [(asked[0], []), (asked[1], [Problem("no compiler", "g++")])])
    monkeypatch.setattr(
        node_probe,
        "examine_nodes",
        lambda _: {"a 10.0.0.1": [Finding("x", "y")], "b 10.0.0.2": [Finding("disk", "1", "warn", "f")]},
    )
    said = list(check_cluster(load_study(tiny.config, ("runtime.kind=ray",))))
    assert said == [
        Finding("node a 10.0.0.1", "4 CPUs, 0 GPUs, ready"),
        Finding("node b 10.0.0.2", "no compiler", "fail", "g++"),
        Finding("node b 10.0.0.2", "disk: 1", "warn", "f"),
    ]


@pytest.mark.ray
def test_every_node_of_a_real_cluster_is_examined(ray_session_2cpu, tmp_path):
    from cpt_ray.study.preflight.node_probe import examine_nodes

    (findings,) = examine_nodes(tmp_path).values()
    assert {"Python", "packages", "memory", "runtime.scratch", "clock"} <= {one.what for one in findings}
