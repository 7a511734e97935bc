"""The door to Ray: join an existing cluster, or start a private one on this machine and stop it afterwards.

Environment variables that Ray's processes need at startup are set here, because glibc and DeepSpeed read theirs at exec.
"""

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from cpt_ray.config.devices import require_gpus
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges import process
from cpt_ray.edges.control_service import ControlServiceWatch, watched
from cpt_ray.edges.device import read_device
from cpt_ray.edges.store import cache, opening
from cpt_ray.errors import CptRayError, LeaseError
from cpt_ray.records import ClusterNode

_STARTS = 3
_KILLED_S = 10
_START_LIMIT_S = 180
"""For one try; Ray's own limits, of 30 s for each of several parts, come first where it has one."""
_NAMESPACE = "cpt-ray"
_MOST_NODES = 1000
"""Of a kind of nodes without a limit: more than a study has runs."""
_NAME_FREED_S = 20
"""How long a cluster may take to see that a driver is gone."""
_HEAD, _NODE_ID = "node:__internal_head__", "ray.io/node-id"
"""The resource that only the head has, and the label that every node has (Ray 2.60)."""
_TOO_SLOW = "timed out during startup"
"""Ray's message when its node did not register within 30 s, a limit that cannot be configured (Ray 2.60)."""
_OTHER_VERSION = "Version mismatch:"
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
"""How Ray refuses a process of other versions than the cluster's, and names those of the cluster, then those of the process
(`check_version_info`, Ray 2.60)."""

ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # else every line of a worker appears twice
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


def worker_environment(runtime: RuntimeConfig) -> dict[str, str]:
    """Environment of a training or scoring process on top of the session's."""
    variables = {"TOKENIZERS_PARALLELISM": "false", **operator_environment(), **opening.environment()}
    on_gpu = uses_gpu(runtime)
    if runtime.recycle_memory and not on_gpu and sys.platform == "linux":
        variables[process.ALLOCATOR] = process.RECYCLE_MEMORY
    return variables if on_gpu else {**variables, **process.NO_GPU}


def uses_gpu(runtime: RuntimeConfig) -> bool:
    """Whether workers get a GPU; one that cannot be used is refused later, with torch's word for it."""
    if runtime.wants_gpu is not None:
        return runtime.wants_gpu
    facts = read_device(ask_torch=False)
    return facts.card is not None and facts.hidden_by is None


def cluster_address(runtime: RuntimeConfig) -> str | None:
    """The cluster to join; None for a private Ray on this machine."""
    return runtime.address or os.environ.get("RAY_ADDRESS") or None


def joined() -> bool:
    """Whether this process is part of a Ray; Ray is not imported to find out."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def require_cluster_gpus(runtime: RuntimeConfig) -> None:
    """Refuse to wait for GPUs that a private Ray will never have; warn of those that a cluster does not have yet.

    Raises:
        ConfigError: If this machine has fewer than the workers need.
    """
    import ray

    there = float(ray.cluster_resources().get("GPU", 0))
    warning = require_gpus(runtime, there, private=cluster_address(runtime) is None)
    if warning is not None:
        logging.getLogger(__name__).warning(warning)


def cluster_nodes() -> list[ClusterNode]:
    """The living nodes of the cluster that this process has joined, by address."""
    import ray

    found = [
        ClusterNode(
            name=node["NodeManagerHostname"],
            resources=node["Resources"],
            labels=node.get("Labels") or {},
            id=node["NodeID"],
            address=node["NodeManagerAddress"],
            is_head=_HEAD in node["Resources"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: (node.address, node.id))


def own_node() -> str:
    """Ray's id of the node that this process runs on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def working_nodes(runtime: RuntimeConfig) -> list[ClusterNode]:
    """The living nodes that may prepare, train and score."""
    return [node for node in cluster_nodes() if runtime.use_head or not node.is_head]


def working_labels(runtime: RuntimeConfig, wanted: Mapping[str, str]) -> dict[str, str]:
    """What selects those of these nodes that have labels, also of nodes that come later, as Ray's `label_selector`."""
    heads = [] if runtime.use_head else [node.id for node in cluster_nodes() if node.is_head]
    return {**wanted, **({_NODE_ID: f"!{heads[0]}"} if heads else {})}


def has_labels(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node has the labels that a selector asks for, by Ray's rules: `x`, `!x`, `in(x, y)`, `!in(x, y)`."""
    for label, asked in selector.items():
        value = asked.removeprefix("!")
        several = value.removeprefix("in(").removesuffix(")").split(",") if value.startswith("in(") else [value]
        if (labels.get(label) in {one.strip() for one in several}) == asked.startswith("!"):
            return False
    return True


def cluster_cpus(labels: Mapping[str, str]) -> int:
    """CPUs of the nodes that `working_labels` select."""
    found = (node for node in cluster_nodes() if has_labels({_NODE_ID: node.id, **node.labels}, labels))
    return int(sum(node.resources.get("CPU", 0) for node in found))


def cluster_may_grow() -> bool:
    """Whether the cluster has an autoscaler that knows kinds of nodes to add."""
    from ray._private.state import state  # no public way to ask (Ray 2.60); Ray Train asks so too

    return state.get_max_resources_from_cluster_config() is not None


def nodes_at_most() -> list[ClusterNode]:
    """The nodes beside the head that an autoscaler may have in the end, without labels, which Ray does not tell."""
    from ray._private.state import state  # as above; Ray Data asks so too

    config = state.get_cluster_config()
    head = next((node.resources for node in cluster_nodes() if node.is_head), {})
    found: list[ClusterNode] = []
    for group in () if config is None else config.node_group_configs:
        resources = {name: float(amount) for name, amount in group.resources.items()}
        if group.max_count == 1 and all(resources.get(name, 0) == head.get(name, 0) for name in ("CPU", "GPU")):
            continue  # the head's own
        most = _MOST_NODES if group.max_count < 0 else min(group.max_count, _MOST_NODES)
        found += [ClusterNode(group.name, resources, {})] * most
    return found


def private_cpus(runtime: RuntimeConfig) -> int:
    """The CPUs that a private Ray counts: training workers and a task beside them must fit at the same time.

    Ray's accounting is logical, so these may be more than the machine has.
    """
    groups = 1 if runtime.parallel_runs == "auto" else runtime.parallel_runs
    return max(
        os.cpu_count() or 1,
        int(groups * runtime.workers.max * runtime.cpus_per_worker) + 1,
        0 if runtime.prepare_workers == "auto" else runtime.prepare_workers + 1,
        runtime.evaluate_workers,
    )


def put_interpreter_on_path() -> None:
    """Put this interpreter's folder on PATH: DeepSpeed loads its operators with the ninja in it."""
    folder = str(Path(sys.executable).parent)
    if folder not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")


def operator_environment() -> dict[str, str]:
    """Where compiled code is kept, DeepSpeed's operators and torch's graphs: inside this environment, if it is writable.

    The defaults are one folder per user, in which two environments on one machine rebuild each other's operators, and one in
    the temporary folder.
    """
    if not os.access(sys.prefix, os.W_OK):
        return {}
    folders = {"TORCH_EXTENSIONS_DIR": "torch_extensions", "TORCHINDUCTOR_CACHE_DIR": "torch_inductor"}
    return {name: str(Path(sys.prefix) / folder) for name, folder in folders.items() if name not in os.environ}


@contextlib.contextmanager
def ray_session(runtime: RuntimeConfig) -> Iterator[None]:
    """Join the cluster of `runtime.address` or RAY_ADDRESS, or start a private Ray; leave one that was already joined alone.

    Raises:
        CptRayError: If the cluster cannot be reached, or its control service is lost.
    """
    address = cluster_address(runtime)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not address:
        # Ray reads it at import: 127.0.0.1 for a private Ray, instead of the host's address.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():  # inside a Ray job, or in a notebook: it is not ours to shut down
        yield
        return
    limit = {} if runtime.cache is None else {cache.LIMIT: str(runtime.cache)}
    environment: dict[str, object] = {"env_vars": {**ENVIRONMENT, **limit}}
    if address:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment)
        except (ConnectionError, RuntimeError) as error:
            raise _not_joined(address, str(error)) from error
    else:
        _start_private(runtime, environment)
    with _watched_cluster() as watch:
        try:
            yield
        except BaseException as error:  # an interrupt, a stop, or Ray's own errors
            watch.require_it(error)
            raise
        finally:
            ray.shutdown()


def _not_joined(address: str, said: str) -> CptRayError:
    """What is wrong with a cluster that Ray has not joined, by Ray's message."""
    versions = _VERSIONS.findall(said)
    if _OTHER_VERSION not in said or len(versions) != 2:
        return CptRayError(
            f"no Ray cluster answers at {address}: {said}",
            fix="check runtime.address and RAY_ADDRESS; a token cluster also needs RAY_AUTH_MODE=token",
        )
    (ray_there, python_there), (ray_here, python_here) = versions
    steps = [f"install ray=={ray_there} (pip install 'ray=={ray_there}')"] if ray_there != ray_here else []
    steps += [f"use Python {python_there}"] if python_there != python_here else []
    return CptRayError(
        f"the cluster at {address} has Ray {ray_there} and Python {python_there}, this process Ray {ray_here} and Python "
        f"{python_here}: Ray joins only what is alike",
        fix=f"{' and '.join(steps)} here, or run the command there: ray job submit --address http://HEAD:8265 -- cpt-ray ...",
    )


@contextlib.contextmanager
def sole_driver(study: str) -> Iterator[None]:
    """Hold a study's name in the cluster while the body runs: a lease for a root whose store has none that is certain.

    The name is that of an actor, which ends with its driver. Drivers in other clusters do not see it.

    Raises:
        LeaseError: If another driver of this cluster has it; one that died has it for seconds.
    """
    import ray

    class Name:
        """Nothing but its name."""

    name, end = f"driver of {study}", time.monotonic() + _NAME_FREED_S
    while True:
        try:
            # With 0 CPUs: it must not wait for a place.
            actor = ray.remote(num_cpus=0)(Name).options(name=name, namespace=_NAMESPACE).remote()
            break
        except ValueError as error:
            if time.monotonic() > end:
                raise LeaseError(
                    f"{study}: another driver of this cluster is running this study",
                    fix="wait for it, stop it, or set study.root to another folder",
                ) from error
            time.sleep(0.5)
    try:
        yield
    finally:
        ray.kill(actor)


def _watched_cluster() -> contextlib.AbstractContextManager[ControlServiceWatch]:
    """Watch the control service of the cluster that was joined, with a client of its own."""
    import ray

    address = ray.get_runtime_context().gcs_address
    client = ray._raylet.GcsClient(address=address)  # no public way to ask with a limit (Ray 2.60); `ray symmetric-run` asks so
    return watched(address, lambda limit_s: client.check_alive([], timeout=limit_s))


@contextlib.contextmanager
def _bounded_start() -> Iterator[None]:
    """End this process with a message if Ray does not start within `_START_LIMIT_S`.

    By a process beside it: a start that hangs holds the interpreter's lock, so that neither a thread nor a handler would run.
    """
    said = CptRayError(
        f"a private Ray did not start within {_START_LIMIT_S} s and did not say why",
        fix="re-run the same command; if it happens again, set runtime.kind=local to train without Ray",
    )
    wait = 'sleep "$1"; printf "cpt-ray: %s\\n" "$2" >&2; kill -KILL "$3"'
    guard = subprocess.Popen(["sh", "-c", wait, "sh", str(_START_LIMIT_S), str(said), str(os.getpid())], start_new_session=True)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(guard.pid, signal.SIGKILL)  # with its `sleep`
        guard.wait()


def _end_all_but(before: set[psutil.Process]) -> None:
    """Kill the processes below this one that were not there before a start."""
    started = [one for one in psutil.Process().children(recursive=True) if one not in before]
    for one in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(started, timeout=_KILLED_S)


def _start_private(runtime: RuntimeConfig, environment: dict[str, object]) -> None:
    import ray

    put_interpreter_on_path()
    for tries_left in reversed(range(_STARTS)):
        before = set(psutil.Process().children(recursive=True))
        try:
            with _bounded_start():
                ray.init(
                    address="local",
                    num_cpus=private_cpus(runtime),
                    object_store_memory=runtime.object_store,
                    include_dashboard=True,  # Ray Train's controller queries it; without it the log fills with failed lookups
                    dashboard_host="127.0.0.1",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env=environment,
                    # Else the start waits for processes that are started ahead, for ever if one of them is killed (Ray 2.60).
                    _system_config={"prestart_worker_first_driver": False},
                )
            return
        except Exception as error:  # Ray raises no narrower class
            _end_all_but(before)  # `ray.shutdown` knows nothing of a node that did not register
            if _TOO_SLOW not in str(error):
                raise
            if not tries_left:
                raise CptRayError(
                    f"a private Ray did not start in {_STARTS} tries of 30 s: {error}",
                    fix="the machine is too busy: wait until it is not, or set runtime.kind=local to train without Ray",
                ) from error
            logging.getLogger(__name__).warning("a private Ray did not start within 30 s; trying again, %d left", tries_left)
            ray.shutdown()
