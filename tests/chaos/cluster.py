"""Ray nodes on one machine, in a separate process: a head, by default without CPUs, and nodes whose raylets can be killed.

The process is `python -m tests.chaos.cluster NODES CPUS HEAD_CPUS`, with the CPUs of each node. It prints its address as a line
of JSON, then obeys commands on standard input and answers each with a line:

    kill N     kills the raylet of node N with SIGKILL and removes the rest of the node
    add N      starts it again
    unfit N    starts it with another version of lm-eval
    drain N    announces that node N will be preempted in a minute, as a cloud does
    raylet N   says which process is the raylet of node N
    lost N     waits until Ray knows that node N is gone
    behead 0   kills the control service on the head

When its input is closed, it stops everything it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]
SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 instead of the host's address; Ray reads it at import
    "RAY_USAGE_STATS_ENABLED": "0",
    # A dead node, which refuses connections, is detected after five seconds: the default of half a minute would only slow the
    # test. A live node has half a minute to answer: on a busy machine the head was lost, and with it the whole cluster.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "6000",
    "RAY_health_check_failure_threshold": "5",
    "OMP_NUM_THREADS": "1",
}


class SimulatedCluster:
    """Controls that process: `with SimulatedCluster(nodes=2) as cluster: ...`."""

    def __init__(self, *, nodes: int, cpus: int = 1, head_cpus: int = 0) -> None:
        folder = str(Path(sys.executable).parent)  # has DeepSpeed's ninja
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = {
            **environment,
            **SETTINGS,
            "PATH": folder + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
        }
        self.nodes, self.cpus, self.head_cpus = nodes, cpus, head_cpus

    def __enter__(self) -> SimulatedCluster:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.cluster", *map(str, (self.nodes, self.cpus, self.head_cpus))],
            env=self.environment,
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address: str = self._read()["address"]
        self.environment["RAY_ADDRESS"] = self.address
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def kill(self, node: int) -> int:
        """Kill a node's raylet, and its workers with it; return the process id."""
        return int(self._ask(f"kill {node}")["pid"])

    def raylet(self, node: int) -> int:
        """The process id of a node's raylet: the parent of the workers there."""
        return int(self._ask(f"raylet {node}")["pid"])

    def seconds_until_lost(self, node: int) -> float:
        """Wait until Ray has declared a killed node dead; the seconds since it was killed."""
        return float(self._ask(f"lost {node}")["seconds"])

    def add(self, node: int) -> None:
        """Start a killed node again."""
        self._ask(f"add {node}")

    def add_unfit(self, node: int) -> None:
        """Start a node that has another version of lm-eval."""
        self._ask(f"unfit {node}")

    def drain(self, node: int) -> None:
        """Announce that a node will be preempted in a minute."""
        assert self._ask(f"drain {node}")["accepted"]

    def behead(self) -> None:
        """Kill the control service of the cluster, which nothing starts again."""
        self._ask("behead 0")

    def processes(self) -> list[psutil.Process]:
        """All processes of the nodes."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def _ask(self, line: str) -> dict[str, object]:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, object]:
        for line in self._process.stdout:
            if line.startswith('{"'):  # Ray may print other lines
                return json.loads(line)
        raise AssertionError(f"the cluster's process exited with code {self._process.wait()}")


class _Nodes:
    """The nodes, in their own process; each method is a command."""

    def __init__(self, cpus: int, head_cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.cluster, self._cpus = Cluster(), cpus
        self._head = self._started(head_cpus)
        self._nodes: dict[int, Any] = {}
        self._killed: dict[int, tuple[str, float]] = {}

    def _started(self, num_cpus: int, **settings: Any) -> Any:
        """Start a node; Ray allows 30 s, which a busy machine may exceed."""
        settings |= {"num_cpus": num_cpus, "object_store_memory": 100_000_000, "include_dashboard": False}
        for _ in range(4):
            with contextlib.suppress(Exception):
                return self.cluster.add_node(**settings)
        return self.cluster.add_node(**settings)

    def add(self, number: int) -> dict[str, object]:
        self._nodes[number] = self._started(self._cpus)
        return {"node": number}

    def unfit(self, number: int) -> dict[str, object]:
        self._packages = tempfile.TemporaryDirectory()
        metadata = Path(self._packages.name) / "lm_eval-0.0.1.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text("Metadata-Version: 2.1\nName: lm_eval\nVersion: 0.0.1\n")
        found_first = f"{self._packages.name}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        self._nodes[number] = self._started(self._cpus, env_vars={"PYTHONPATH": found_first})
        return {"node": number}

    def kill(self, number: int) -> dict[str, object]:
        node, pid = self._nodes[number], self.raylet(number)["pid"]
        del self._nodes[number]
        self._killed[number] = (node.node_id, time.monotonic())
        os.kill(pid, signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)
        return {"pid": pid}

    def drain(self, number: int) -> dict[str, object]:
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = int(1000 * (time.time() + 60))
        gcs = GcsClient(address=self.cluster.address)
        accepted, why = gcs.drain_node(self._nodes[number].node_id, reason, "the test's", deadline_ms)
        return {"accepted": accepted, "why": why}

    def raylet(self, number: int) -> dict[str, int]:
        return {"pid": self._nodes[number].all_processes["raylet"][0].process.pid}

    def lost(self, number: int) -> dict[str, object]:
        from ray._raylet import GcsClient, NodeID

        (node, when), gcs = self._killed[number], GcsClient(address=self.cluster.address)
        while gcs.check_alive([NodeID.from_hex(node)], timeout=10)[0]:
            time.sleep(0.1)
        return {"seconds": time.monotonic() - when}

    def behead(self, _: int) -> dict[str, object]:
        pid = self._head.all_processes["gcs_server"][0].process.pid
        os.kill(pid, signal.SIGKILL)
        return {"pid": pid}


def main() -> None:
    """Run the nodes until the input is closed."""
    number_of_nodes, cpus, head_cpus = map(int, sys.argv[1:])
    nodes = _Nodes(cpus, head_cpus)

    def answer(words: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()

    try:
        for number in range(number_of_nodes):
            nodes.add(number)
        answer({"address": nodes.cluster.address})
        for line in sys.stdin:
            verb, number = line.split()
            answer(getattr(nodes, verb)(int(number)))
    finally:
        nodes.cluster.shutdown()


if __name__ == "__main__":
    main()
