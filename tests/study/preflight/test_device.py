"""The device of a study, said by `check` and proven before work; the card that `plan` measures against."""

from __future__ import annotations

import pytest

from cpt_ray.config.load import parse_study
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges import ray_runtime
from cpt_ray.errors import ConfigError
from cpt_ray.records import Card, ClusterNode, DeviceFacts
from cpt_ray.study.preflight import device
from tests.integration.tiny_study import study_tree
from tests.study.planned import Lines

H200 = DeviceFacts(
    card="NVIDIA H200", memory_bytes=140 << 30, capability=(9, 0), driver="580.65.06", torch="2.11.0+cu130", cuda="13.0"
)
T4 = H200.model_copy(update={"card": "Tesla T4", "memory_bytes": 15 << 30, "capability": (7, 5)})
NONE = DeviceFacts(torch="2.13.0+cpu")


@pytest.fixture
def facts_are(monkeypatch):
    """Let the machine be another one."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return lambda facts: monkeypatch.setattr(device, "read_device", lambda *, ask_torch: facts)


def study(tmp_path, **runtime):
    tree = study_tree(tmp_path, "local")
    tree["runtime"] = {"kind": "local", **runtime}
    return parse_study(tree, place="study.yaml")


def said(config):
    console = Lines()
    device.say_device(config, console)
    return console.said


def test_check_says_the_card_with_its_memory_or_the_cpu(tmp_path, facts_are):
    facts_are(H200)
    assert said(study(tmp_path)) == ["device: NVIDIA H200, 140.0 GiB, driver 580.65.06, torch 2.11.0+cu130 (CUDA 13.0)"]
    assert said(study(tmp_path, device="cpu")) == ["device: CPU, torch 2.11.0+cu130 (CUDA 13.0)"]
    facts_are(NONE)
    assert said(study(tmp_path)) == ["device: CPU, torch 2.13.0+cpu (a CPU build)"]
    assert said(study(tmp_path, kind="ray")) == []  # the workers' machines are not this one


def test_gpus_that_workers_of_ray_do_not_ask_for_are_warned_of(tmp_path, facts_are, monkeypatch):
    rest = (
        "but runtime.gpus_per_worker is 0: workers train on the CPU; set it to 1, or runtime.kind=local for one GPU without Ray"
    )
    here = f"this machine has a GPU (NVIDIA H200), {rest}; runtime.device=cpu says that the CPU is meant"
    facts_are(H200)
    assert said(study(tmp_path, kind="ray")) == [here]
    assert device.idle_gpus(RuntimeConfig(), {"train"}) == here
    for meant in (RuntimeConfig(device="cpu"), RuntimeConfig(gpus_per_worker=1), RuntimeConfig(kind="local")):
        assert device.idle_gpus(meant, {"train"}) is None
    assert device.idle_gpus(RuntimeConfig(), {"documents", "evaluate"}) is None
    facts_are(H200.model_copy(update={"hidden_by": ""}))
    assert device.idle_gpus(RuntimeConfig(), {"train"}) is None
    nodes = [ClusterNode(name, {"CPU": 8.0, "GPU": gpus}, {}) for name, gpus in (("a", 4.0), ("b", 0.0), ("c", 4.0))]
    monkeypatch.setattr(device, "working_nodes", lambda runtime: nodes)
    cluster = RuntimeConfig(address="head:6379")
    assert (device.idle_gpus(cluster, {"train"}) or "").startswith(f"the cluster has 8 GPU(s), {rest}")
    assert said(study(tmp_path, kind="ray", address="head:6379")) == []  # `check` does not join it
    nodes = nodes[1:2]
    assert device.idle_gpus(cluster, {"train"}) is None


def test_workers_of_a_cluster_are_said_to_have_no_effect_here(tmp_path, facts_are):
    facts_are(NONE)
    warning = "runtime.workers is 3 to 4, without effect: runtime.kind local trains in one process"
    assert said(study(tmp_path, workers={"min": 3, "max": 4}))[1:] == [warning]


def test_check_refuses_a_card_without_the_precision_of_the_study(tmp_path, facts_are):
    facts_are(T4)
    with pytest.raises(
        ConfigError, match=r"train\.precision is bf16, which Tesla T4 \(compute capability 7\.5\) does not have"
    ):
        said(study(tmp_path))


def test_work_is_refused_only_for_what_is_to_be_built(tmp_path, facts_are):
    device.require_device(study(tmp_path, device="gpu"), {"documents", "shards"})
    facts_are(NONE)
    private = study(tmp_path, kind="ray", gpus_per_worker=1)
    device.require_device(private, {"documents"})
    with pytest.raises(ConfigError, match=r"^runtime\.gpus_per_worker is 1, but this machine has no GPU"):
        device.require_device(private, {"train"})
    device.require_device(study(tmp_path, kind="ray", gpus_per_worker=1, address="node:6379"), {"train"})
    device.require_device(study(tmp_path, kind="ray"), {"train"})


def test_the_planned_card_is_the_hint_else_the_one_that_is_here(facts_are):
    facts_are(H200)
    assert device.planned_card(RuntimeConfig(kind="local")) == Card("NVIDIA H200", 140 << 30)
    assert device.planned_card(RuntimeConfig(kind="local", device="cpu")) is None
    assert device.planned_card(RuntimeConfig()) is None
    hint = Card("a GPU of runtime.gpu_memory", 80 << 30)
    assert device.planned_card(RuntimeConfig(gpus_per_worker=1, gpu_memory=80 << 30)) == hint
    facts_are(NONE)
    assert device.planned_card(RuntimeConfig(kind="local")) is None
    facts_are(H200.model_copy(update={"hidden_by": ""}))
    assert device.planned_card(RuntimeConfig(kind="local")) is None


def test_a_placement_that_a_private_ray_cannot_serve_is_refused_before_it_starts(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    started = []
    spread = RuntimeConfig(workers=2, placement_strategy="STRICT_SPREAD")
    with pytest.raises(ConfigError, match=r"with CPU 1 each, placed STRICT_SPREAD, which cannot be placed"):
        device.require_placement(spread, {"train"}, lambda: started.append(1))
    labeled = RuntimeConfig(label_selector={"market": "spot"}, gpus_per_worker=1)
    with pytest.raises(ConfigError, match=r"nodes labeled market: spot.* has 1 node with CPU \d+, GPU 1 without"):
        device.require_placement(labeled, {"train"}, lambda: started.append(1))
    assert device.require_placement(labeled, {"evaluate"}, lambda: started.append(1)) is None
    assert device.require_placement(RuntimeConfig(workers=64), {"train"}, lambda: started.append(1)) is None
    assert device.require_placement(labeled.model_copy(update={"kind": "local"}), {"train"}, lambda: started.append(1)) is None
    assert started == []


@pytest.mark.parametrize("grows", [False, True])
def test_a_cluster_is_asked_what_it_has_and_one_that_grows_is_waited_for(monkeypatch, grows):
    joined = []
    monkeypatch.setattr(ray_runtime, "cluster_nodes", lambda: [ClusterNode("a", {"CPU": 2.0}, {})])
    monkeypatch.setattr(device, "cluster_may_grow", lambda: grows)
    large = RuntimeConfig(workers=2, cpus_per_worker=4, address="head:6379")

    def ask() -> str | None:
        return device.require_placement(large, {"train"}, lambda: joined.append(1))

    if grows:
        assert "the cluster has 1 node with CPU 2: the workers wait for nodes that can serve it" in ask()
    else:
        with pytest.raises(ConfigError, match="cannot be placed: the cluster has 1 node with CPU 2"):
            ask()
    assert joined == [1]


def test_a_head_that_is_left_out_must_have_other_nodes_beside_it(monkeypatch):
    there = [ClusterNode("head", {"CPU": 8.0}, {}, id="h", is_head=True)]
    monkeypatch.setattr(ray_runtime, "cluster_nodes", lambda: there)
    monkeypatch.setattr(device, "cluster_may_grow", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    runtime = RuntimeConfig(use_head=False)
    with pytest.raises(ConfigError, match=r"runtime\.use_head is false, but a private Ray is this machine alone"):
        device.require_placement(runtime, {"documents"}, lambda: None)
    runtime = RuntimeConfig(use_head=False, address="head:6379")
    with pytest.raises(ConfigError, match="but the cluster has no other node") as error:
        device.require_placement(runtime, {"documents"}, lambda: None)
    assert "or leave runtime.use_head out" in error.value.fix
    assert device.require_placement(runtime, (), lambda: None) is None
    there.append(ClusterNode("a", {"CPU": 1.0}, {}, id="a"))
    assert device.require_placement(runtime, {"documents", "train"}, lambda: None) is None
    with pytest.raises(ConfigError, match="cannot be placed: the cluster has 1 node with CPU 1"):
        device.require_placement(runtime.model_copy(update={"cpus_per_worker": 4}), {"train"}, lambda: None)
    assert ray_runtime.working_labels(runtime, {"zone": "a"}) == {"zone": "a", "ray.io/node-id": "!h"}
    assert ray_runtime.working_labels(RuntimeConfig(address="head:6379"), {}) == {}
    assert ray_runtime.cluster_cpus({"ray.io/node-id": "!h"}) == 1
    assert ray_runtime.cluster_cpus({}) == 9


def test_nodes_that_no_task_can_run_on_and_groups_that_no_node_holds_are_said_before_anything_is_prepared(monkeypatch):
    there = [ClusterNode("a", {"CPU": 4.0}, {"cpt-ray-group": "prepare"}), ClusterNode("b", {"CPU": 2.0}, {})]
    monkeypatch.setattr(ray_runtime, "cluster_nodes", lambda: there)
    monkeypatch.setattr(device, "cluster_may_grow", lambda: False)
    everything = {"documents", "train", "evaluate"}

    def ask(building=everything, **settings) -> str | None:
        return device.require_placement(RuntimeConfig(address="head:6379", **settings), building, lambda: None)

    assert ask(prepare_labels={"cpt-ray-group": "prepare"}, evaluate_labels={"cpt-ray-group": "!prepare"}) is None
    with pytest.raises(ConfigError) as error:
        ask(prepare_labels={"cpt-ray-group": "text"})
    assert error.value.problem == (
        "a unit is prepared with CPU 1 on nodes labeled cpt-ray-group: text (runtime.prepare_labels), which no node has: the "
        "cluster has 1 node with CPU 4 without these labels; 1 node with CPU 2 without these labels"
    )
    assert error.value.fix.startswith("change runtime.prepare_labels, or start nodes that have it: ray start")
    with pytest.raises(
        ConfigError, match=r"a model is scored with CPU 1 on nodes labeled zone: b \(runtime\.evaluate_labels\)"
    ):
        ask(evaluate_labels={"zone": "b"})
    assert ask({"train"}, prepare_labels={"zone": "b"}, evaluate_labels={"zone": "b"}) is None
    assert ask(parallel_runs=3, workers=2) is None
    assert ask(parallel_runs=4, workers=2).startswith(
        "runtime.parallel_runs is 4, but the cluster has 1 node with CPU 4; 1 node"
    )
    monkeypatch.setattr(device, "cluster_may_grow", lambda: True)
    monkeypatch.setattr(device, "nodes_at_most", lambda: [ClusterNode("cpu", {"CPU": 8.0}, {})])
    assert ask(parallel_runs=4, workers=2, prepare_labels={"zone": "b"}) is None
    assert "is 5, but the cluster may have at most 1 node with CPU 8, which hold 4 " in ask(parallel_runs=5, workers=2)


def test_parallel_runs_without_effect_are_said(facts_are, tmp_path):
    facts_are(NONE)
    without = "runtime.parallel_runs is 3, without effect: runtime.kind local trains one run at a time"
    assert without in said(study(tmp_path, parallel_runs=3))
    assert without not in said(study(tmp_path, parallel_runs=1))
