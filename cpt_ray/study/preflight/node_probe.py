"""Ask every node of a Ray cluster what it finds about itself, by an actor on each.

In: what the study wants of every node. Out: facts, measured there; `study.preflight.nodes` judges them. A busy cluster answers
too: the actors take no CPU from Ray.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cpt_ray
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges import store
from cpt_ray.edges.device import read_device
from cpt_ray.edges.packages import versions
from cpt_ray.edges.ray_runtime import cluster_nodes, working_nodes
from cpt_ray.edges.source_files import SourceFile, open_source
from cpt_ray.edges.store.addresses import CACHE
from cpt_ray.edges.store.cache import kept_bytes
from cpt_ray.errors import CptRayError
from cpt_ray.records import ClusterNode, DeviceFacts, Finding
from cpt_ray.study.preflight.doctor.machine import check_machine
from cpt_ray.study.preflight.doctor.software import CPU_ADAM, check_software, find_compiler, operator_folder
from cpt_ray.study.preflight.doctor.step import LONGEST_S, STEP, StepSettings, check_step
from cpt_ray.train.groups.room import workers_on

DISTRIBUTIONS = ("torch", "transformers", "deepspeed", "ray", "tokenizers", "pyarrow", "numpy", "lm-eval")
"""Whose versions decide what a node computes, or whether its processes understand the others."""
ANSWER_S = 60.0
"""A node that has not answered after this long is reported: its processes hang, or no new one starts there."""
_CONNECT_S = 5.0
_BEGIN_S = 60.0
"""For a training step to begin: a process is started, and other work may hold what it needs."""


@dataclass(frozen=True)
class Wanted:
    """What every node is asked."""

    root: Path
    """The study's root, which every node must see."""
    mark: str
    """Name of a file that the driver has written into the root."""
    scratch: Path | None
    """`runtime.scratch`."""
    sources: Sequence[tuple[str, SourceFile]]
    """Setting to the first file that it names, for one that workers read."""
    models: Mapping[str, Path] = field(default_factory=dict)
    """Name of each model that is imported already to a file of it in the root."""


@dataclass(frozen=True)
class NodeFacts:
    """What a node found. Paths are its own."""

    host: str
    python: str
    code: str
    """Hash of the package's source."""
    versions: Mapping[str, str]
    clock_s: float
    """Seconds since the epoch when it was asked."""
    root_problem: str
    """Why the root is not the driver's; empty if it is."""
    scratch: str
    scratch_free_bytes: int
    """0 if the folder cannot be written; what the node has of a bucket and may delete is free."""
    compiler: bool
    """Whether DeepSpeed's CPUAdam is built, or can be."""
    device: DeviceFacts
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Setting to the reason why its file cannot be read."""


@dataclass(frozen=True)
class AskedNode:
    """A node of the cluster and its answer."""

    name: str
    """Host and address."""
    cpus: float
    gpus: float
    facts: NodeFacts | None
    """None if it did not answer."""
    skew_s: float
    """Its clock minus the driver's; 0 where the difference may be the time that the question took."""
    node: ClusterNode
    """What Ray says of it."""
    unreachable: tuple[str, ...] = ()
    """Nodes that it cannot connect to."""


def ask_nodes(wanted: Wanted, among: Collection[str] | None = None) -> list[AskedNode]:
    """Ask the living nodes of the cluster, or those of the ids in `among`; one that is lost meanwhile is left out."""
    import ray

    nodes = [node for node in cluster_nodes() if among is None or node.id in among]
    probes = _probes(nodes)
    try:
        addresses = _answers({node.id: probe.listen.remote() for node, probe in zip(nodes, probes, strict=True)})
        # One that is silent would be waited for at each question.
        listening = {node.id: probe for node, probe in zip(nodes, probes, strict=True) if addresses[node.id] is not None}
        # The clock is read in a second call: starting the actor's process takes seconds.
        asked = time.time()
        facts = _answers({one: probe.look.remote(wanted) for one, probe in listening.items()})
        others = [addresses[one] for one in listening]
        unreachable = _answers({one: probe.unreachable.remote(others) for one, probe in listening.items()})
    finally:
        for probe in probes:
            ray.kill(probe)
    alive = {node.id for node in cluster_nodes()}
    named = {addresses[node.id]: _named(node) for node in nodes}
    return [
        AskedNode(
            name=_named(node),
            cpus=node.resources.get("CPU", 0),
            gpus=node.resources.get("GPU", 0),
            facts=answer,
            skew_s=0.0 if answer is None else _skew(answer.clock_s, asked, time.time()),
            unreachable=tuple(named[address] for address in unreachable.get(node.id) or ()),
            node=node,
        )
        for node in nodes
        for answer in [facts.get(node.id)]
        if node.id in alive
    ]


def examine_nodes(scratch: Path | None) -> dict[str, list[Finding] | None]:
    """Node to what `doctor` finds of its machine; None for one that does not answer in time.

    Args:
        scratch: `runtime.scratch`.
    """
    import ray

    nodes = cluster_nodes()
    probes = _probes(nodes)
    try:
        found = _answers({_named(node): probe.examine.remote(scratch) for node, probe in zip(nodes, probes, strict=True)})
    finally:
        for probe in probes:
            ray.kill(probe)
    return found


def steps_on_nodes(runtime: RuntimeConfig, settings: StepSettings, *, longest_s: float = LONGEST_S) -> dict[str, Finding]:
    """Ray's id of each node that training workers may run on to what a training step there says; Ray has been joined.

    A step takes the CPUs, GPUs and other resources of a worker, and waits for them as one does.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    demand = dict(runtime.worker_demand)
    needs = {"num_cpus": demand.pop("CPU"), "num_gpus": demand.pop("GPU", 0), "resources": demand}
    nodes = [node for node in working_nodes(runtime) if workers_on(runtime, node)]
    asked = {
        node.id: ray.remote(check_step)
        .options(max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False), **needs)
        .remote(settings, longest_s=longest_s)
        for node in nodes
    }
    if not asked:
        return {}
    done, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=longest_s + _BEGIN_S)
    return {name: _step_of(reference, reference in done) for name, reference in asked.items()}


def _step_of(reference: Any, done: bool) -> Finding:
    import ray

    if not done:
        ray.cancel(reference, force=True)
        fix = "wait until other work leaves a worker's CPUs and GPUs there free (ray status), then cpt-ray doctor again"
        return Finding(STEP, "not begun, or not done in time", "warn", fix)
    try:
        found: Finding = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Finding(STEP, str(error).strip().splitlines()[-1][:400], "fail", "look at Ray's logs on the node")
    return found


def _named(node: ClusterNode) -> str:
    return f"{node.name} {node.address}"


def _probes(nodes: Sequence[ClusterNode]) -> list[Any]:
    """An actor on each node, which takes no CPU from Ray."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return [
        ray.remote(NodeProbe)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False))
        .remote()
        for node in nodes
    ]


def _answers(references: Mapping[str, Any]) -> dict[str, Any]:
    """What each reference holds, None for those that do not arrive in time or whose actor died or could not be placed."""
    import ray

    silent = (ray.exceptions.GetTimeoutError, ray.exceptions.RayActorError, ray.exceptions.ActorUnschedulableError)
    ray.wait(list(references.values()), num_returns=len(references), timeout=ANSWER_S)
    found: dict[str, Any] = {}
    for key, reference in references.items():
        try:
            found[key] = ray.get(reference, timeout=0.1)
        except silent:
            found[key] = None
    return found


def _skew(there: float, before: float, after: float) -> float:
    """How far a clock that was read between two times of ours is outside of them."""
    return min(there - before, 0.0) + max(there - after, 0.0)


def code_hash() -> str:
    """The sha256 of the package's Python files, in the order of their names."""
    folder = Path(cpt_ray.__file__).parent
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


class NodeProbe:
    """Runs on the node that is asked."""

    def look(self, wanted: Wanted) -> NodeFacts:
        """Find out what the study wants to know of this node."""
        scratch = wanted.scratch or Path(tempfile.gettempdir())
        kept = 0
        if store.is_mirrored(wanted.root):
            scratch = Path(os.environ.get(CACHE) or scratch)
            kept = kept_bytes(store.here(wanted.root))
        unreadable = {key: reason for key, file in wanted.sources if (reason := _why_unreadable(file))}
        unreadable |= {name: reason for name, path in wanted.models.items() if (reason := _why_missing(path))}
        return NodeFacts(
            host=socket.gethostname(),
            python=platform.python_version(),
            code=code_hash(),
            versions=versions(*DISTRIBUTIONS),
            clock_s=time.time(),
            root_problem=_root_problem(wanted),
            scratch=str(scratch),
            scratch_free_bytes=_free_bytes(scratch) + kept,
            compiler=find_compiler() is not None or any(operator_folder().rglob(CPU_ADAM)),
            device=read_device(ask_torch=False),
            unreadable=unreadable,
        )

    def examine(self, scratch: Path | None) -> list[Finding]:
        """Look at this node as `doctor` looks at the driver's."""
        return [*check_software(), *check_machine(scratch)]

    def listen(self) -> tuple[str, int]:
        """Accept connections on a port that the system chooses; its address."""
        import ray

        server = socket.create_server(("", 0))
        threading.Thread(target=_answer, args=(server,), daemon=True).start()
        return ray.util.get_node_ip_address(), int(server.getsockname()[1])

    def unreachable(self, addresses: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of the addresses that do not accept a connection from here within five seconds."""
        return [address for address in addresses if not _reaches(address)]


def _answer(server: socket.socket) -> None:
    with server:
        while True:
            with contextlib.suppress(OSError):
                server.accept()[0].close()


def _reaches(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


def _root_problem(wanted: Wanted) -> str:
    try:
        mark = store.here(wanted.root) / wanted.mark
        if not store.exists(mark):
            return "is not the driver's folder: the file that the driver has written there is missing"
        own = mark.with_name(f"{mark.name}-{socket.gethostname()}-{os.getpid()}")
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_bytes(b"")
        store.push(own)
        store.remove(own)
        own.unlink()
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    except CptRayError as error:
        return f"{error.problem}; {error.fix}"
    return ""


def _free_bytes(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _why_unreadable(file: SourceFile) -> str:
    try:
        with open_source(file.path) as stream:
            stream.read(1)
    except CptRayError as error:
        return error.problem
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _why_missing(path: Path) -> str:
    """Why a file of the root cannot be read here; its content is not fetched."""
    try:
        path = store.here(path)
        if not store.exists(path):
            return f"{store.address(path)} is not there"
        if not store.is_mirrored(path):
            path.open("rb").close()
    except CptRayError as error:
        return error.problem
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""
