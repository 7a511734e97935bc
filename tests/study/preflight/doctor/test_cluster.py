"""Every node of a cluster, with what is wrong on it."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import load_study
from cpt_ray.records import ClusterNode, Finding
from cpt_ray.study.preflight.doctor import cluster
from cpt_ray.study.preflight.doctor.cluster import check_cluster
from cpt_ray.study.preflight.doctor.step import StepSettings
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

    names = ("a 10.0.0.1", "b 10.0.0.2")
    asked = [
        AskedNode(name, cpus=4, gpus=0, facts=None, skew_s=0.0, node=ClusterNode(name, {}, {}, id=name[0])) for name in names
    ]
    monkeypatch.setattr(cluster, "cluster_address", lambda runtime: "auto")
    monkeypatch.setattr(ray_runtime, "ray_session", lambda runtime: monkeypatch.context())
    monkeypatch.setattr(nodes, "judge_nodes", lambda *_, **__: [(asked[0], []), (asked[1], [Problem("no compiler", "g++")])])
    monkeypatch.setattr(
        node_probe,
        "examine_nodes",
        lambda _: {"a 10.0.0.1": [Finding("x", "y")], "b 10.0.0.2": [Finding("disk", "1", "warn", "f")]},
    )
    config = load_study(tiny.config, ("runtime.kind=ray",))
    ready = Finding("node a 10.0.0.1", "4 CPUs, 0 GPUs, ready")
    others = [Finding("node b 10.0.0.2", "no compiler", "fail", "g++"), Finding("node b 10.0.0.2", "disk: 1", "warn", "f")]
    assert list(check_cluster(config)) == [ready, *others]

    def stepped(step: Finding) -> list[Finding]:
        monkeypatch.setattr(node_probe, "steps_on_nodes", lambda *_: {"a": step})
        return list(check_cluster(config, StepSettings()))

    assert stepped(Finding("training step", "4 steps")) == [ready._replace(found=f"{ready.found}; 4 steps"), *others]
    wrong = Finding("node a 10.0.0.1", "training step: NaN", "fail", "another torch")
    assert stepped(Finding("training step", "NaN", "fail", "another torch")) == [wrong, *others]


@pytest.mark.ray
def test_every_node_of_a_real_cluster_is_examined(ray_session_2cpu, tmp_path):
    from cpt_ray.study.preflight.node_probe import examine_nodes

    (findings,) = examine_nodes(tmp_path).values()
    assert {"Python", "packages", "memory", "runtime.scratch", "clock"} <= {one.what for one in findings}


@pytest.mark.ray
@pytest.mark.slow
def test_a_step_is_taken_on_every_node_that_may_train(ray_session_2cpu, tiny):
    from cpt_ray.study.preflight.node_probe import steps_on_nodes

    config = load_study(tiny.config, ("runtime.kind=ray",))
    settings = StepSettings.of(config, tiny.config)
    (found,) = steps_on_nodes(config.runtime, settings).values()
    assert (found.what, found.level) == ("training step", "ok")
    assert "4 steps, loss 6." in found.found
    (hung,) = steps_on_nodes(config.runtime, settings, longest_s=0.5).values()
    assert (hung.found, hung.level) == ("not done after 0 s", "fail")
    elsewhere = config.runtime.model_copy(update={"label_selector": {"accelerator": "h100"}})
    assert steps_on_nodes(elsewhere, settings) == {}


@pytest.mark.ray
@pytest.mark.slow
def test_a_step_that_finds_no_free_cpus_is_no_fault_of_the_node(ray_session_2cpu, tiny, monkeypatch):
    import ray

    from cpt_ray.study.preflight import node_probe

    monkeypatch.setattr(node_probe, "_BEGIN_S", 5.0)
    config = load_study(tiny.config, ("runtime.kind=ray",))

    @ray.remote(num_cpus=ray.cluster_resources()["CPU"])
    class Busy:
        def ready(self) -> bool:
            return True

    busy = Busy.remote()
    assert ray.get(busy.ready.remote())
    (found,) = node_probe.steps_on_nodes(config.runtime, StepSettings(), longest_s=0.5).values()
    ray.kill(busy)
    assert found.level == "warn"
    assert "ray status" in found.fix
