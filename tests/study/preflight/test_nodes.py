"""Nodes of a cluster are asked before anything long begins; what is wrong on one is said with its fix."""

from __future__ import annotations

import dataclasses
import re
import socket
import time
from pathlib import Path

import pytest
import ray

from cpt_ray.config.load import load_study
from cpt_ray.edges.packages import versions
from cpt_ray.edges.source_files import SourceFile
from cpt_ray.edges.store import mirror_of, push
from cpt_ray.errors import ConfigError
from cpt_ray.records import ClusterNode, DeviceFacts, MemoryPlan
from cpt_ray.study.preflight import node_probe as probe_module
from cpt_ray.study.preflight import nodes as module
from cpt_ray.study.preflight.node_probe import DISTRIBUTIONS, AskedNode, NodeProbe, Wanted, _skew, ask_nodes, code_hash
from cpt_ray.study.preflight.nodes import Demands, Planned, Room, problems, require_nodes, room_needed, table
from tests.integration.tiny_study import write_tiny_study
from tests.object_store import node as mirrors

pytestmark = pytest.mark.accept(cluster=4)
GIB = 1 << 30
_BYTES = ("weights", "gradients", "optimizer", "device", "host", "export")
MEMORY = MemoryPlan(
    model="tiny", parameters=1, zero_stage=2, precision="bf16", num_workers=2, checkpoint_bytes=14,
    **{f"{name}_bytes": 1 for name in _BYTES},
)  # fmt: skip


@pytest.fixture
def config(tmp_path):
    return load_study(write_tiny_study(tmp_path / "study").config)


@pytest.fixture
def wanted(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "mark").touch()
    return Wanted(root, "mark", tmp_path / "scratch", ())


@pytest.fixture
def ready(wanted):
    """This machine as a node that is ready."""
    facts = dataclasses.replace(NodeProbe().look(wanted), compiler=True)
    return AskedNode("h1 10.0.0.1", cpus=4, gpus=0, facts=facts, skew_s=0.0, node=ClusterNode("h1", {"CPU": 4.0}, {}))


def demands(config, **changes):
    return dataclasses.replace(Demands(config, versions(*DISTRIBUTIONS), code_hash(), Room(worker=1), offloads=True), **changes)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def said(node, asked):
    return [f"{problem.what} -> {problem.fix}" for problem in problems(node, asked)]


def test_a_node_like_the_drivers_is_ready(ready, config):
    assert said(ready, demands(config)) == []
    assert table([(ready, [])]) == "  h1 10.0.0.1     4 CPUs   0 GPUs  ready"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"python": "3.9.1"}, r"Python 3\.9\.1, the driver has 3\.\d+\.\d+ -> install the same versions"),
        (
            {"versions": {**versions(*DISTRIBUTIONS), "ray": "2.9.0"}},
            r"^ray 2\.9\.0 \(driver 2\.\d+\.\d+\) -> install the same",
        ),
        ({"versions": {}}, r"torch missing \(driver .*numpy missing"),
        ({"code": "another"}, r"another state of cpt-ray's code .* submit with `--working-dir \.`"),
        (
            {"root_problem": "cannot be written: Read-only file system"},
            r"study\.root cannot be written: Read-only .* object store",
        ),
        ({"unreadable": {"source law": "no such file"}}, r"source law: no such file -> put what source law names where"),
        (
            {"scratch_free_bytes": 0},
            r"0\.0 GiB free, 0\.0 GiB needed \(checkpoints of 1 worker\(s\) 0\.0\) -> set runtime\.scratch to a folder",
        ),
        ({"compiler": False}, r"no C\+\+ compiler, .* -> install g\+\+ there"),
    ],
)
def test_each_fault_of_a_node_is_said_with_its_fix(ready, config, changes, found):
    node = dataclasses.replace(ready, facts=dataclasses.replace(ready.facts, **changes))
    (only,) = said(node, demands(config))
    assert re.search(found, only), only


def test_all_that_may_come_to_a_node_at_once_must_have_room_on_its_disk(ready, config):
    def said_of(free_gib: float, cpus: float = 4, **room) -> list[str]:
        facts = dataclasses.replace(ready.facts, scratch="/scratch", scratch_free_bytes=int(free_gib * GIB))
        node = ready.node._replace(resources={"CPU": cpus})
        asked = demands(config, room=Room(**{key: size * (GIB if key != "workers" else 1) for key, size in room.items()}))
        return [problem.what for problem in problems(dataclasses.replace(ready, cpus=cpus, facts=facts, node=node), asked)]

    # As many workers as the node holds, and no more than train at once.
    assert said_of(7.9, worker=2, workers=9) == ["/scratch: 7.9 GiB free, 8.0 GiB needed (checkpoints of 4 worker(s) 8.0)"]
    assert said_of(8, worker=2, workers=9) == []
    assert said_of(4, worker=2, workers=2) == []
    assert said_of(1, worker=2, workers=9, cpus=0.5) == []
    # In a bucket's mirror also models and text: all of it, or what the units in work take.
    whole = {"worker": 1, "workers": 2, "model": 3, "text": 100, "unit": 1}
    parts = "checkpoints of 2 worker(s) 2.0, models 3.0, text and shards 4.0"
    assert said_of(8.9, **whole) == [f"/scratch: 8.9 GiB free, 9.0 GiB needed ({parts})"]
    assert said_of(8, **{**whole, "text": 3}) == []
    assert said_of(104, **{**whole, "unit": 0}) != said_of(105, **{**whole, "unit": 0}) == []


def test_what_a_study_takes_of_a_disk_follows_its_plan(config):
    planned = Planned(
        [MEMORY.model_copy(update={"checkpoint_bytes": 100, "export_bytes": 7})], 50.0, runs=3, models={}, offloads=False
    )
    assert config.runtime.workers.max == 2
    assert room_needed(config, planned, groups=2, in_bucket=False) == Room(worker=50, workers=4)
    assert room_needed(config, planned, groups=9, in_bucket=False).workers == 6  # no more groups than runs
    unit = 3 * config.prepare.unit_bytes
    assert room_needed(config, planned, groups=1, in_bucket=True) == Room(100, 2, model=14, text=150, unit=unit)
    limited = config.model_copy(update={"runtime": config.runtime.model_copy(update={"cache": 40})})
    assert room_needed(limited, planned, groups=1, in_bucket=True) == Room(100, 2, model=14, text=40, unit=0)


def test_a_model_of_the_root_that_a_node_cannot_read_is_named(ready, config, wanted):
    weights = wanted.root / "models" / "model.safetensors"
    asked = dataclasses.replace(wanted, models={"model tiny": weights})
    facts = NodeProbe().look(asked)
    (only,) = said(dataclasses.replace(ready, facts=dataclasses.replace(facts, compiler=True)), demands(config))
    assert only == f"model tiny: {weights} is not there -> let every node read study.root with the rights that the driver has"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    assert NodeProbe().look(asked).unreadable == {}


@pytest.mark.usefixtures("bucket")
def test_what_a_node_has_of_a_bucket_and_may_delete_is_free(wanted, tmp_path):
    with mirrors(tmp_path / "mirrors"):
        root = mirror_of("s3://studies/here")
        (root / "shards").mkdir(parents=True)
        push(write(root / "mark", b""))
        before = NodeProbe().look(dataclasses.replace(wanted, root=root))
        assert (before.root_problem, before.scratch) == ("", str(tmp_path / "mirrors"))
        write(root / "shards" / "a.arrow", b"\0" * (64 << 20))
        after = NodeProbe().look(dataclasses.replace(wanted, root=root))
        assert after.scratch_free_bytes > before.scratch_free_bytes - (32 << 20)
        # A model there is looked for in the bucket, not in the mirror.
        model = write(root / "models" / "model.safetensors", b"weights")
        asked = dataclasses.replace(wanted, root=root, models={"model tiny": model})
        assert NodeProbe().look(asked).unreadable == {"model tiny": "s3://studies/here/models/model.safetensors is not there"}
        push(model)
        assert NodeProbe().look(asked).unreadable == {}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"facts": None}, "did not answer within 60 s -> look at Ray's logs"),
        ({"skew_s": -9.0}, "its clock is -9 s off the driver's -> synchronize"),
        ({"unreachable": ("h2 10.0.0.2",)}, "cannot connect to h2 10.0.0.2 -> open all ports"),
    ],
)
def test_a_node_that_is_silent_late_or_cut_off_is_named(ready, config, changes, found):
    (only,) = said(dataclasses.replace(ready, **changes), demands(config))
    assert only.startswith(found)


def test_a_head_that_gets_no_work_needs_neither_root_nor_sources_nor_compiler(ready, config):
    facts = dataclasses.replace(ready.facts, root_problem="is not there", unreadable={"source law": "no"}, compiler=False)
    assert said(dataclasses.replace(ready, cpus=0, facts=facts), demands(config)) == []


def test_only_an_offloaded_optimizer_needs_a_compiler(ready, config):
    node = dataclasses.replace(ready, facts=dataclasses.replace(ready.facts, compiler=False))
    assert "the offload in train.deepspeed" in said(node, demands(config))[0]
    assert said(node, demands(config, offloads=False)) == []


def test_a_gpu_node_whose_card_torch_cannot_use_is_named(ready, config):
    runtime = config.runtime.model_copy(update={"gpus_per_worker": 1.0})
    old = DeviceFacts(card="NVIDIA L4", driver="470.1", torch="2.13.0", cuda="13.0", capability=(8, 9))
    node = dataclasses.replace(ready, gpus=1, facts=dataclasses.replace(ready.facts, device=old))
    (only,) = said(node, demands(config.model_copy(update={"runtime": runtime})))
    assert "470.1" in only


def test_a_file_that_cannot_be_read_and_a_root_of_another_machine_are_found(tmp_path, wanted):
    gone = SourceFile(str(tmp_path / "gone.jsonl"), 1, "1")
    here = tmp_path / "here.jsonl"
    here.write_text("{}")
    sources = [("source gone", gone), ("source here", SourceFile(str(here), 2, "1"))]
    facts = NodeProbe().look(dataclasses.replace(wanted, mark="unseen", sources=sources))
    assert facts.unreadable == {"source gone": "No such file or directory"}
    assert facts.root_problem.startswith("is not the driver's folder")
    assert NodeProbe().look(wanted).root_problem == ""
    assert sorted(path.name for path in wanted.root.iterdir()) == ["mark"]


def test_a_full_or_read_only_scratch_has_no_room(tmp_path, wanted):
    (tmp_path / "file").touch()
    assert NodeProbe().look(dataclasses.replace(wanted, scratch=tmp_path / "file")).scratch_free_bytes == 0
    assert NodeProbe().look(wanted).scratch_free_bytes > 0


def test_a_port_that_nobody_listens_on_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_port = server.getsockname()[1]
        assert NodeProbe().unreachable([("127.0.0.1", open_port)]) == []
    assert NodeProbe().unreachable([("127.0.0.1", open_port)]) == [("127.0.0.1", open_port)]


def test_a_clock_is_wrong_only_outside_of_the_time_that_the_question_took():
    assert (_skew(5.0, 4.0, 6.0), _skew(1.0, 4.0, 6.0), _skew(9.0, 4.0, 6.0)) == (0.0, -3.0, 3.0)


class SilentProbe(NodeProbe):
    def listen(self):
        time.sleep(600)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session_2cpu")
class TestOnRay:
    def test_the_nodes_of_a_cluster_answer(self, wanted):
        started = time.monotonic()
        (node,) = ask_nodes(wanted)
        assert time.monotonic() - started < 20
        assert (node.facts.root_problem, node.unreachable, node.skew_s) == ("", (), 0.0)
        assert node.cpus == ray.cluster_resources()["CPU"]

    def test_one_that_is_lost_while_it_is_asked_is_left_out(self, wanted, monkeypatch):
        (here,) = probe_module.cluster_nodes()
        lost = here._replace(id="ab" * (len(here.id) // 2))
        listed = iter([[lost, here], [here]])
        monkeypatch.setattr(probe_module, "cluster_nodes", lambda: next(listed))
        assert [node.node.id for node in ask_nodes(wanted)] == [here.id]

    def test_one_that_does_not_answer_is_waited_for_once(self, wanted, monkeypatch):
        (here,) = probe_module.cluster_nodes()
        made = [*probe_module._probes([here]), ray.remote(SilentProbe).options(num_cpus=0).remote()]
        monkeypatch.setattr(probe_module, "_probes", lambda _nodes: made)
        monkeypatch.setattr(probe_module, "cluster_nodes", lambda: [here, here._replace(name="silent", id="another")])
        monkeypatch.setattr(probe_module, "ANSWER_S", 15.0)
        started = time.monotonic()
        answered, silent = ask_nodes(wanted)
        assert time.monotonic() - started < 2 * 15
        assert (answered.facts.root_problem, answered.unreachable) == ("", ())
        assert (silent.facts, silent.unreachable) == (None, ())

    def test_the_study_is_told(self, config, tmp_path, capsys, monkeypatch):
        lines = []

        class Console:
            say = lines.append

        (tmp_path / "root").mkdir()
        planned = Planned([MEMORY], 0.0, runs=1, models={}, offloads=False)
        require_nodes(config, tmp_path / "root", planned, Console)
        assert lines[0].endswith("s, all ready")
        monkeypatch.setattr(module, "code_hash", lambda: "another")
        with pytest.raises(ConfigError, match=r"(?s)not every node .* CPUs   0 GPUs  another state") as error:
            require_nodes(config, tmp_path / "root", planned, Console)
        assert "--working-dir" in error.value.fix
        monkeypatch.undo()
        large = MEMORY.model_copy(update={"checkpoint_bytes": 1 << 62})
        with pytest.raises(ConfigError, match=r"GiB free, [1-9]\d+\.0 GiB needed \(checkpoints of 2 worker"):
            require_nodes(config, tmp_path / "root", planned._replace(memory=[MEMORY, large]), Console)
        assert list(Path(tmp_path / "root").iterdir()) == []
