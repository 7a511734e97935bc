"""`cluster/onprem.yaml` on simulated hosts, typed as cluster/README.md says: up, submit, stop, down."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from benchmarks.cluster.hosts import REPOSITORY, Hosts

LAPTOP, HEAD = 0, 1
SSH = (
    "ssh -i ~/.ssh/cpt_ray_cluster -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
    "-o ConnectTimeout=5"
)
_NODES = "import ray; ray.init(address='auto', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"


class OnPremCluster:
    """A Ray cluster on the hosts from 1 on, started from host 0, the laptop.

    Args:
        hosts: At least two.
        log: Folder for the output of commands that stay.
        exports: Environment variables of every login shell on the nodes, such as credentials of a store.
    """

    def __init__(self, hosts: Hosts, log: Path, exports: dict[str, str]) -> None:
        self.hosts, self.log = hosts, log
        self.exports = exports
        self.file = hosts.temporary(LAPTOP) / "onprem.yaml"

    @property
    def workers(self) -> range:
        """The hosts that are workers."""
        return range(HEAD + 1, self.hosts.number)

    def __enter__(self) -> Self:
        text = (REPOSITORY / "cluster" / "onprem.yaml").read_text(encoding="utf-8")
        values = {
            "<HEAD-IP>": self.hosts.address(HEAD),
            "[<WORKER-1-IP>, <WORKER-2-IP>]": json.dumps([self.hosts.address(host) for host in self.workers]),
            "<USER>": "root",
            "<FOLDER-OF-THE-CLONE>/.venv": sys.prefix,
        }
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        left = re.findall(r"^[^#\n]*<[A-Z0-9-]+>", text, re.MULTILINE)
        if left:
            raise RuntimeError(f"onprem.yaml has placeholders that this does not know: {left}")
        self.file.write_text(text)
        # All hosts share this machine's memory: Ray's monitor of each would count that of all the others.
        lines = {**self.exports, "PYTHONPATH": str(REPOSITORY), "RAY_memory_monitor_refresh_ms": "0"}
        for host in range(HEAD, self.hosts.number):
            profile = self.hosts.home(host) / ".bashrc"
            profile.write_text("".join(f"export {name}='{value}'\n" for name, value in lines.items()))
        self.laptop("ray get-auth-token --generate >/dev/null && chmod 600 ~/.ray/auth_token")
        self.laptop("ray up -y --no-config-cache /tmp/onprem.yaml")
        self._wait_for_nodes()
        forward = f"{SSH} -N -L 8265:127.0.0.1:8265 root@{self.hosts.address(HEAD)}"
        self._tunnel = self.hosts.start(LAPTOP, forward, self.log / "tunnel.log")
        self._wait_for_jobs()
        return self

    def __exit__(self, *_: object) -> None:
        self._tunnel.kill()
        self._tunnel.wait()

    def down(self) -> list[str]:
        """Stop the cluster as README says; what still runs of Ray on any node."""
        self.laptop("ray down -y /tmp/onprem.yaml")
        for host in self.workers:
            self.laptop(f"{SSH} root@{self.hosts.address(host)} 'bash -ic \"source ~/.bashrc; ray stop\"'")
        return [line for host in range(HEAD, self.hosts.number) for line in self.hosts.processes(host, "raylet|gcs_server")]

    def laptop(self, command: str, *, timeout: float = 900) -> str:
        """Run a command in a fresh shell of the laptop.

        Raises:
            RuntimeError: If it fails, with the end of its output.
        """
        done = self.hosts.on(LAPTOP, command, timeout=timeout)
        if done.returncode:
            raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stdout[-4000:]}")
        return done.stdout

    def submit(self, command: str, *, options: str = "", timeout: float = 1800) -> str:
        """Submit a job from a fresh shell of the laptop and follow it to its end; its output."""
        return self.laptop(self.submission(command, options), timeout=timeout)

    def submission(self, command: str, options: str = "") -> str:
        """The line that submits a job."""
        job = f"ray job submit --address http://127.0.0.1:8265 --working-dir . {options} -- {command}"
        return f"export RAY_AUTH_MODE=token; {job}"

    def _wait_for_nodes(self) -> None:
        deadline = time.monotonic() + 180
        nodes = self.hosts.number - 1
        while time.monotonic() < deadline:
            said = self.hosts.on(HEAD, f'export RAY_AUTH_MODE=token; python -c "{_NODES}"').stdout
            if said.strip().endswith(str(nodes)):
                return
            time.sleep(2)
        raise RuntimeError(f"not all of {nodes} nodes joined: {said[-2000:]}")

    def _wait_for_jobs(self) -> None:
        deadline = time.monotonic() + 60
        question = "export RAY_AUTH_MODE=token; ray job list --address http://127.0.0.1:8265"
        while self.hosts.on(LAPTOP, question).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError("the job server does not answer on the laptop")
            time.sleep(1)


def moto_server(hosts: Hosts, log: Path, port: int = 25001) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """An S3 server on the laptop, and the environment with which every host reaches it."""
    address = hosts.address(LAPTOP)
    server = hosts.start(LAPTOP, f"moto_server -H {address} -p {port}", log / "moto.log")
    environment = {
        "AWS_ENDPOINT_URL": f"http://{address}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "testtest",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    deadline = time.monotonic() + 60
    while hosts.on(LAPTOP, f"curl -s -o /dev/null http://{address}:{port}/").returncode:
        if time.monotonic() > deadline or server.poll() is not None:
            raise RuntimeError(f"moto did not start: {(log / 'moto.log').read_text()[-1000:]}")
        time.sleep(0.5)
    return server, environment
