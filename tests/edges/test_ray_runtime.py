"""Starting a private Ray on a machine that is too busy for it."""

import contextlib
import logging
import signal
import subprocess
import sys
import time

import psutil
import pytest
import ray
from ray._private.state import state
from ray._private.utils import check_version_info, compute_version_info
from ray.core.generated import autoscaler_pb2
from ray.train import ScalingConfig

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges import process, ray_runtime
from cpt_ray.errors import CptRayError, LeaseError
from cpt_ray.evaluate import launch as scoring
from cpt_ray.records import ClusterNode, DeviceFacts
from cpt_ray.train.groups import under_ray

SLOW = "The current node timed out during startup. This could happen because some of the raylet failed to startup."


@pytest.fixture
def starts(monkeypatch):
    """A Ray that fails with the given messages or errors, one per start; and the list of its starts."""
    said, made = [], []

    def init(**settings):
        made.append(settings)
        if said:
            problem = said.pop(0)
            raise problem if isinstance(problem, Exception) else Exception(problem)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray_runtime, "_watched_cluster", contextlib.nullcontext)
    return said, made


def begin() -> None:
    with ray_runtime.ray_session(RuntimeConfig()):
        pass


def test_a_start_that_was_too_slow_is_made_again_and_said(starts, caplog):
    said, made = starts
    said.extend([SLOW, SLOW])
    with caplog.at_level(logging.WARNING):
        begin()
    assert len(made) == 3
    assert [record.message for record in caplog.records] == [
        f"a private Ray did not start within 30 s; trying again, {left} left" for left in (2, 1)
    ]


def test_three_slow_starts_are_refused_with_a_fix(starts):
    said, made = starts
    said.extend([SLOW] * 3)
    with pytest.raises(CptRayError, match="a private Ray did not start in 3 tries of 30 s: The current node") as caught:
        begin()
    assert "set runtime.kind=local to train without Ray" in caught.value.fix
    assert len(made) == 3


def test_what_a_failed_start_leaves_is_ended_and_what_was_there_before_is_not(starts, monkeypatch):
    said, _ = starts
    said.append(SLOW)
    left = []
    init = ray.init

    def start(**settings):
        left.append(subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '1000'])"]))
        while not psutil.Process(left[-1].pid).children():
            time.sleep(0.05)
        left.extend(psutil.Process(left[-1].pid).children())
        init(**settings)

    monkeypatch.setattr(ray, "init", start)
    before = subprocess.Popen(["sleep", "1000"])
    try:
        begin()
        failed, of_failed, made, _ = left
        assert failed.poll() is not None
        assert not of_failed.is_running()
        assert made.poll() is None
        assert before.poll() is None
    finally:
        for one in (before, *left):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def test_any_other_failure_is_not_tried_again(starts):
    said, made = starts
    said.append("out of memory")
    with pytest.raises(Exception, match="out of memory"):
        begin()
    assert len(made) == 1


def refusal_of_ray(**there) -> RuntimeError:
    """What the installed Ray says to a process when its cluster has other versions."""
    ray_here, python_here = compute_version_info()
    cluster = {"ray_version": ray_here, "python_version": python_here} | there
    with pytest.raises(RuntimeError) as caught:
        check_version_info(cluster, "node 10.0.0.5")
    return caught.value


@pytest.mark.accept(cluster=5)
@pytest.mark.parametrize(
    ("there", "fix"),
    [
        ({"ray_version": "2.48.0"}, "install ray==2.48.0 (pip install 'ray==2.48.0') here, or run the command there: ray"),
        ({"python_version": "3.10.4"}, "use Python 3.10.4 here, or run the command there: ray job submit --address"),
        ({"ray_version": "2.48.0", "python_version": "3.10.4"}, "(pip install 'ray==2.48.0') and use Python 3.10.4 here, or"),
    ],
)
def test_a_cluster_of_another_ray_or_python_is_named_with_both_versions(starts, there, fix):
    said, _ = starts
    said.append(refusal_of_ray(**there))
    ray_here, python_here = compute_version_info()
    ray_there, python_there = there.get("ray_version", ray_here), there.get("python_version", python_here)
    with pytest.raises(CptRayError) as caught, ray_runtime.ray_session(RuntimeConfig(address="10.0.0.5:6379")):
        pass
    assert caught.value.problem == (
        f"the cluster at 10.0.0.5:6379 has Ray {ray_there} and Python {python_there}, this process Ray {ray_here} and Python "
        f"{python_here}: Ray joins only what is alike"
    )
    assert fix in caught.value.fix


def test_a_cluster_that_does_not_answer_is_no_question_of_versions(starts):
    said, _ = starts
    said.append(ConnectionError("connection timed out"))
    with pytest.raises(CptRayError, match=r"no Ray cluster answers at 10\.0\.0\.5:6379: connection timed out") as caught:
        ray_runtime.ray_session(RuntimeConfig(address="10.0.0.5:6379")).__enter__()
    assert "check runtime.address and RAY_ADDRESS" in caught.value.fix


HANGS = """
import time
from cpt_ray.edges import ray_runtime
ray_runtime._START_LIMIT_S = 1
with ray_runtime._bounded_start():
    time.sleep(60)
"""


@pytest.mark.accept(cluster=5)
def test_a_start_that_hangs_is_ended_and_says_so():
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=30)
    assert done.returncode == -signal.SIGKILL
    assert done.stderr.startswith("cpt-ray: a private Ray did not start within 1 s and did not say why\n  fix: re-run the same")


def test_what_bounds_a_start_ends_with_it():
    before = set(psutil.Process().children(recursive=True))
    with ray_runtime._bounded_start():
        assert set(psutil.Process().children(recursive=True)) - before
    assert set(psutil.Process().children(recursive=True)) - before == set()


STARTS = """
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.ray_runtime import ray_session
with ray_session(RuntimeConfig(object_store=80_000_000)):
    import ray
    print("started", flush=True)
    print(ray.get(ray.remote(lambda: "worked").remote()), flush=True)
"""


@pytest.mark.ray
@pytest.mark.full
@pytest.mark.accept(cluster=5)
def test_a_worker_killed_while_a_private_ray_starts_does_not_hold_it_up(record_property):
    """Ray's own start waits for ever for a worker that was started ahead and killed: nothing is started ahead."""
    started, killed = time.monotonic(), None
    command = subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE, text=True)
    try:
        while killed is None:
            assert command.poll() is None
            for one in psutil.Process(command.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any(part.endswith("default_worker.py") for part in one.cmdline()[:3]):
                        one.kill()
                        killed = time.monotonic() - started
        assert command.communicate(timeout=120)[0] == "started\nworked\n"
    finally:
        command.kill()
    record_property("a worker killed at a start", f"after {killed:.1f} s; ended well after {time.monotonic() - started:.1f} s")


def test_processes_on_the_cpu_see_no_gpu_and_those_on_a_gpu_keep_theirs(monkeypatch):
    on_cpu = ray_runtime.worker_environment(RuntimeConfig())
    assert (on_cpu["CUDA_VISIBLE_DEVICES"], on_cpu["DS_ACCELERATOR"]) == ("", "cpu")
    assert process.ALLOCATOR in on_cpu
    on_gpu = ray_runtime.worker_environment(RuntimeConfig(gpus_per_worker=1))
    assert {"CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR", process.ALLOCATOR} & set(on_gpu) == set()


def test_workers_are_told_which_buckets_have_answered_their_driver(monkeypatch):
    monkeypatch.setattr(ray_runtime.opening, "_answered", set())
    assert ray_runtime.opening.ANSWERED not in ray_runtime.worker_environment(RuntimeConfig())
    ray_runtime.opening.rely_on(["s3://studies", "gs://texts"])
    assert ray_runtime.worker_environment(RuntimeConfig())[ray_runtime.opening.ANSWERED] == "gs://texts s3://studies"


@pytest.mark.parametrize(("card", "hidden", "used"), [("NVIDIA L4", None, True), ("NVIDIA L4", "", False), (None, None, False)])
def test_a_local_process_is_set_up_for_the_gpu_that_it_will_find(monkeypatch, card, hidden, used):
    facts = DeviceFacts(card=card, hidden_by=hidden, torch="2.11.0", cuda="13.0")
    monkeypatch.setattr(ray_runtime, "read_device", lambda *, ask_torch: facts)
    assert ray_runtime.uses_gpu(RuntimeConfig(kind="local")) is used
    assert not ray_runtime.uses_gpu(RuntimeConfig(kind="local", device="cpu"))


def test_gpus_that_a_private_ray_does_not_have_are_refused_and_a_clusters_are_warned_about(monkeypatch, caplog):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(CptRayError, match="which is 1 GPUs, but this machine has 0"):
        ray_runtime.require_cluster_gpus(RuntimeConfig(gpus_per_worker=1))
    with caplog.at_level(logging.WARNING):
        ray_runtime.require_cluster_gpus(RuntimeConfig(gpus_per_worker=1, address="node:6379"))
    assert "the cluster has 0 now" in caplog.text


def test_a_private_ray_counts_a_cpu_for_each_worker_of_every_group_and_one_more(monkeypatch):
    monkeypatch.setattr(ray_runtime.os, "cpu_count", lambda: 2)
    count = ray_runtime.private_cpus
    assert count(RuntimeConfig(workers=3, prepare_workers=1)) == 4
    assert count(RuntimeConfig(workers=2, parallel_runs=3)) == 7
    assert count(RuntimeConfig(prepare_workers=8)) == 9
    assert count(RuntimeConfig(prepare_workers="auto")) == 2


@pytest.mark.parametrize(
    ("asked", "fits"),
    [("gpu", True), ("!gpu", False), ("!cpu", True), ("in(cpu, gpu)", True), ("!in(cpu,gpu)", False), ("in(cpu)", False)],
)
def test_labels_are_matched_as_ray_matches_them(asked, fits):
    assert ray_runtime.has_labels({"kind": "gpu"}, {"kind": asked}) is fits
    assert ray_runtime.has_labels({}, {"kind": asked}) is asked.startswith("!")


@pytest.fixture
def groups(monkeypatch):
    """A cluster of a head of two CPUs, whose autoscaler knows these kinds of nodes."""
    head = ClusterNode("head", {"CPU": 2.0, "memory": 1.0}, {"zone": "a"}, id="h", is_head=True)
    there = [head, ClusterNode("w", {"CPU": 8.0}, {"zone": "b"}, id="w")]
    monkeypatch.setattr(ray_runtime, "cluster_nodes", lambda: there)
    config = autoscaler_pb2.ClusterConfig()
    monkeypatch.setattr(state, "get_cluster_config", lambda: config)
    return config.node_group_configs


def test_a_cluster_may_grow_to_the_most_nodes_of_each_kind_but_the_heads(groups):
    assert ray_runtime.nodes_at_most() == []
    assert not ray_runtime.cluster_may_grow()
    groups.add(name="head", resources={"CPU": 2, "memory": 7}, max_count=1)
    groups.add(name="cpu", resources={"CPU": 16}, max_count=2)
    groups.add(name="gpu", resources={"CPU": 8, "GPU": 1}, max_count=1)
    assert ray_runtime.cluster_may_grow()
    found = [(node.name, node.resources) for node in ray_runtime.nodes_at_most()]
    assert found == [("cpu", {"CPU": 16.0})] * 2 + [("gpu", {"CPU": 8.0, "GPU": 1.0})]
    groups.add(name="any", resources={"CPU": 1}, max_count=-1)
    assert len(ray_runtime.nodes_at_most()) == 3 + ray_runtime._MOST_NODES


@pytest.mark.usefixtures("groups")
def test_the_cpus_of_the_nodes_with_labels_are_counted():
    counted = [ray_runtime.cluster_cpus(labels) for labels in ({}, {"zone": "b"}, {"zone": "!b"}, {"ray.io/node-id": "!h"})]
    assert counted == [10, 8, 2, 8]


@pytest.mark.usefixtures("groups")
def test_each_kind_of_work_is_handed_to_ray_with_the_labels_of_its_nodes():
    runtime = RuntimeConfig(
        use_head=False,
        gpus_per_worker=1,
        evaluate_gpus=0.5,
        label_selector={"cpt-ray-group": "train"},
        evaluate_labels={"zone": "b"},
    )
    train, score = under_ray.placement_of(runtime), scoring.placement_of(runtime)
    assert ScalingConfig(**train).label_selector == {"cpt-ray-group": "train", "ray.io/node-id": "!h"}
    assert ScalingConfig(**train).resources_per_worker == {"CPU": 1, "GPU": 1}
    assert score == {"num_cpus": 1, "num_gpus": 0.5, "label_selector": {"zone": "b", "ray.io/node-id": "!h"}}
    ray.remote(lambda: None).options(**score)  # Ray refuses what it cannot read
    anywhere = RuntimeConfig()
    assert scoring.placement_of(anywhere)["label_selector"] is under_ray.placement_of(anywhere)["label_selector"] is None


DRIVES = """
import sys, time
import ray
from cpt_ray.edges.ray_runtime import sole_driver
ray.init(address=sys.argv[1], log_to_driver=False)
with sole_driver("s3://studies/one"):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.mark.ray
@pytest.mark.accept(cluster=5)
@pytest.mark.usefixtures("ray_session_2cpu")
def test_a_name_in_the_cluster_is_held_by_one_driver_and_freed_by_its_death(monkeypatch):
    address = ray.get_runtime_context().gcs_address
    other = subprocess.Popen([sys.executable, "-c", DRIVES, address], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(ray_runtime, "_NAME_FREED_S", 1)
        with pytest.raises(LeaseError, match="s3://studies/one: another driver of this cluster is running this study"):
            ray_runtime.sole_driver("s3://studies/one").__enter__()
        with ray_runtime.sole_driver("s3://studies/two"):
            pass
    finally:
        other.kill()
    monkeypatch.undo()
    for _ in range(2):
        with ray_runtime.sole_driver("s3://studies/one"):
            pass
