"""Hosts of a network on one machine: each with its own address, processes, home, temporary folder, shared memory and sshd.

    with Hosts(4) as hosts:
        hosts.on(0, "ssh 10.77.0.11 hostname")

They see the same programs and the same clone, as machines that were set up alike, and nothing else of each other: what one
writes into its home or temporary folder is in no other, and no packet leaves the network. Needs root, and Debian's packages
`iproute2`, `openssh-server` and `rsync`. Only Linux: network, mount, process and hostname namespaces.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).parents[2]
PORT = 22
_SSHD = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
PermitRootLogin yes
StrictModes no
UsePAM no
"""
# In the host's namespaces, before anything else runs there. The interpreter may be in the home that is covered.
_INIT = """
set -eu
hostname {name}
ip link set lo up
mkdir -p {home} {temporary}
for kept in {kept}; do
  mkdir -p {home}/"${{kept#$HOME/}}"
  mount --bind "$kept" {home}/"${{kept#$HOME/}}"
done
mount --rbind {home} "$HOME"
mkdir -p {temporary}/folder
mount --bind {folder} {temporary}/folder
mount --rbind {temporary} /tmp
mount -t tmpfs -o size=50% tmpfs /dev/shm
mount --bind /tmp/folder/hosts /etc/hosts
mkdir -p /run/sshd
/usr/sbin/sshd -f /tmp/folder/sshd_config -E /tmp/sshd.log
# Not `exec`: the first process of a host must collect the processes that nobody waits for.
sleep infinity & wait
"""


class Hosts:
    """Hosts `h0`, `h1`, ... with the addresses 10.77.0.10, 10.77.0.11, ..., which reach each other by ssh with one key.

    Args:
        number: How many.
        folder: What they write, one folder a host; removed at the end.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self.number, self.folder = number, folder
        self._tag = secrets.token_hex(3)
        self._init: list[subprocess.Popen[bytes]] = []
        self._pid: list[int] = []

    def address(self, host: int) -> str:
        """The address of a host."""
        return f"10.77.0.{10 + host}"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        shared = self.folder / "shared"
        shared.mkdir()
        for name in ("key", "host_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(shared / name))
        (shared / "sshd_config").write_text(_SSHD.format(folder="/tmp/folder"))
        names = "".join(f"{self.address(host)} h{host}\n" for host in range(self.number))
        (shared / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        switch = self._network("sw")
        _run("ip", "netns", "add", switch)
        _run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "br0", "up")
        try:
            for host in range(self.number):
                self._plug_in(host)
                self._boot(host)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in range(len(self._init)):
            self.power_off(host)
        for name in ("sw", *(f"h{host}" for host in range(self.number))):
            subprocess.run(["ip", "netns", "del", self._network(name)], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def on(self, host: int, command: str, *, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command in a fresh login shell of a host; its output and errors come back as one text."""
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(self._enter(host, command), text=True, timeout=timeout, **output)

    def start(self, host: int, command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command on a host and leave it running."""
        with log.open("wb") as out:
            return subprocess.Popen(self._enter(host, command), stdout=out, stderr=subprocess.STDOUT)

    def cut(self, host: int) -> None:
        """Unplug a host's network cable."""
        _run("ip", "-n", self._network("sw"), "link", "set", self._cable(host), "down")

    def heal(self, host: int) -> None:
        """Plug it in again."""
        _run("ip", "-n", self._network("sw"), "link", "set", self._cable(host), "up")

    def power_off(self, host: int) -> None:
        """End every process of a host at once."""
        self._init[host].kill()
        self._init[host].wait()

    def processes(self, host: int, pattern: str) -> list[str]:
        """The command lines of a host's processes that match."""
        found = self.on(host, f"pgrep -af -- {pattern!r} | grep -Ev 'pgrep|<defunct>' || true").stdout
        return found.splitlines()

    def home(self, host: int) -> Path:
        """The home folder of a host, as seen from outside."""
        return self.folder / f"h{host}" / "home"

    def temporary(self, host: int) -> Path:
        """The temporary folder of a host, as seen from outside."""
        return self.folder / f"h{host}" / "tmp"

    def _network(self, name: str) -> str:
        return f"cpt-{self._tag}-{name}"

    def _cable(self, host: int) -> str:
        return f"v{self._tag}{host}"

    def _plug_in(self, host: int) -> None:
        network, switch = self._network(f"h{host}"), self._network("sw")
        _run("ip", "netns", "add", network)
        _run("ip", "link", "add", "eth0", "netns", network, "type", "veth", "peer", "name", self._cable(host), "netns", switch)
        _run("ip", "-n", switch, "link", "set", self._cable(host), "master", "br0", "up")
        _run("ip", "-n", network, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        _run("ip", "-n", network, "link", "set", "eth0", "up")

    def _boot(self, host: int) -> None:
        script = self.folder / f"h{host}.sh"
        home = Path.home()
        kept = [folder for folder in {Path(sys.base_prefix), Path(sys.prefix)} if folder.is_relative_to(home)]
        script.write_text(
            _INIT.format(
                name=f"h{host}",
                home=self.home(host),
                temporary=self.temporary(host),
                folder=self.folder / "shared",
                kept=" ".join(map(str, kept)),
            )
        )
        namespaces = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = ["ip", "netns", "exec", self._network(f"h{host}"), *namespaces, "bash", str(script)]
        self._init.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True))
        self._pid.append(self._first_process(host))
        home = self.home(host) / ".ssh"
        home.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(self.folder / "shared" / "key", home / "cpt_ray_cluster")
        (home / "cpt_ray_cluster").chmod(0o600)

    def _first_process(self, host: int) -> int:
        """The process id, outside, of a host's first process, once its sshd answers."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._init[host].poll() is None:
            children = Path(f"/proc/{self._init[host].pid}/task/{self._init[host].pid}/children").read_text().split()
            if children and (self.temporary(host) / "sshd.log").exists():
                return int(children[0])
            time.sleep(0.05)
        raise RuntimeError(f"host h{host} did not start")

    def _enter(self, host: int, command: str) -> list[str]:
        environment = [
            f"HOME={Path.home()}",
            f"PATH={Path(sys.prefix) / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"TORCH_EXTENSIONS_DIR={os.environ.get('TORCH_EXTENSIONS_DIR', Path(sys.prefix) / 'torch_extensions')}",
            "LANG=C.UTF-8",
        ]
        enter = ["nsenter", "--target", str(self._pid[host]), "--mount", "--uts", "--ipc", "--net", "--pid"]
        return [*enter, f"--wdns={REPOSITORY}", "env", "-i", *environment, "bash", "-c", command]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
