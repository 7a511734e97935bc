"""Every node of a Ray cluster, asked before anything long begins: one table with what is wrong where, and how to fix it.

In: the study, a joined cluster. Out: nothing, or an error with the table. `node_probe` asks; the rules are here. Nodes that
join later are not asked.
"""

from __future__ import annotations

import contextlib
import platform
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cpt_ray.config.devices import choose_device, require_precision
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges import store
from cpt_ray.edges.packages import versions
from cpt_ray.edges.source_files import SourceFile, list_source_files
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError
from cpt_ray.records import MemoryPlan
from cpt_ray.study.preflight.node_probe import ANSWER_S, DISTRIBUTIONS, AskedNode, NodeFacts, Wanted, ask_nodes, code_hash
from cpt_ray.study.stages.stage import Console

_SKEW_S = 5.0
"""Clocks further apart than this make leases and heartbeats look stale."""
_GIB = 1 << 30


class Problem(NamedTuple):
    """What is wrong on a node."""

    what: str
    fix: str


@dataclass(frozen=True)
class Demands:
    """What the study needs of a node that works for it."""

    config: StudyConfig
    here: Mapping[str, str]
    """Versions of the driver."""
    code: str
    """Hash of the driver's source."""
    scratch_bytes: int
    """What the checkpoints of one worker take while they wait for their upload."""


def require_nodes(config: StudyConfig, root: Path, memory: Sequence[MemoryPlan], console: Console) -> None:
    """Ask every node; Ray has been joined.

    Args:
        config: The study.
        root: Its root.
        memory: Of its models, whose checkpoints wait on the workers' disks.
        console: Where the result is said.

    Raises:
        ConfigError: With a table of all nodes, if something is wrong on one that works for the study.
    """
    started = time.monotonic()
    largest = max(one.checkpoint_bytes for one in memory)
    found = judge_nodes(config, root, scratch_bytes=largest // config.runtime.group.min)
    if any(wrong for _, wrong in found):
        fixes = dict.fromkeys(problem.fix for _, wrong in found for problem in wrong)
        raise ConfigError(f"not every node of the cluster can work for this study:\n{table(found)}", fix="; ".join(fixes))
    console.say(f"nodes: {len(found)} asked in {time.monotonic() - started:.1f} s, all ready")


def judge_nodes(config: StudyConfig, root: Path, *, scratch_bytes: int) -> list[tuple[AskedNode, list[Problem]]]:
    """Every node of the cluster, which has been joined, with what keeps it from working for the study.

    Args:
        config: The study.
        root: Its root.
        scratch_bytes: What the checkpoints of one worker take on a node's disk.
    """
    with _marked(root) as mark:
        nodes = ask_nodes(Wanted(root, mark, _path(config.runtime.scratch), _first_files(config)))
    demands = Demands(config, versions(*DISTRIBUTIONS), code_hash(), scratch_bytes)
    return [(node, list(problems(node, demands))) for node in nodes]


def problems(node: AskedNode, demands: Demands) -> Iterator[Problem]:
    """What keeps a node from working for the study."""
    facts, runtime = node.facts, demands.config.runtime
    if facts is None:
        yield Problem(
            f"did not answer within {ANSWER_S:.0f} s",
            "look at Ray's logs on the node (/tmp/ray/session_latest/logs), or take it out of the cluster",
        )
        return
    yield from _other_software(facts, demands)
    if abs(node.skew_s) > _SKEW_S:
        yield Problem(f"its clock is {node.skew_s:+.0f} s off the driver's", "synchronize the clocks (chrony or ntpd)")
    if node.unreachable:
        where = ", ".join(node.unreachable)
        yield Problem(f"cannot connect to {where}", "open all ports between the cluster's nodes in their firewall")
    if not node.cpus and not node.gpus:  # nothing of the study runs there
        return
    if facts.root_problem:
        fix = "set study.root to a folder that all nodes share under the same path, or to an object store (s3://BUCKET/PREFIX)"
        yield Problem(f"study.root {facts.root_problem}", fix)
    for key, reason in facts.unreadable.items():
        yield Problem(f"{key}: {reason}", f"put what {key} names where every node reads it under that name")
    if facts.scratch_free_bytes < demands.scratch_bytes:
        free, needed = facts.scratch_free_bytes / _GIB, demands.scratch_bytes / _GIB
        yield Problem(
            f"{facts.scratch}: {free:.1f} GiB free, checkpoints need {needed:.1f} GiB",
            "set runtime.scratch to a folder on a larger disk, which exists on every node",
        )
    if runtime.gpus_per_worker == 0 and not facts.compiler:
        yield Problem("no C++ compiler, and DeepSpeed's operators are not built", "install g++ there, or run make setup there")
    if runtime.gpus_per_worker > 0 and node.gpus > 0:
        yield from _card(facts, demands.config)


def table(found: Sequence[tuple[AskedNode, Sequence[Problem]]]) -> str:
    """A line per node, and one more for each further problem of it."""
    width = max(len(node.name) for node, _ in found)
    lines = []
    for node, wrong in found:
        what = [problem.what for problem in wrong] or ["ready"]
        lines.append(f"  {node.name:{width}}  {node.cpus:4g} CPUs {node.gpus:3g} GPUs  {what[0]}")
        lines += [f"  {'':{width}}  {'':18}  {one}" for one in what[1:]]
    return "\n".join(lines)


def _other_software(facts: NodeFacts, demands: Demands) -> Iterator[Problem]:
    same = "install the same versions on every node (make setup with the same requirements.lock, or one image)"
    python = platform.python_version()
    if facts.python.split(".")[:2] != python.split(".")[:2]:
        yield Problem(f"Python {facts.python}, the driver has {python}", same)
    other = [
        f"{name} {facts.versions.get(name, 'missing')} (driver {demands.here.get(name, 'missing')})"
        for name in DISTRIBUTIONS
        if facts.versions.get(name) != demands.here.get(name)
    ]
    if other:
        yield Problem(", ".join(other), same)
    if facts.code != demands.code:
        yield Problem(
            "another state of cpt-ray's code than the driver's",
            "update the clone there, or submit with `--working-dir .`, which sends the driver's to every node",
        )


def _card(facts: NodeFacts, config: StudyConfig) -> Iterator[Problem]:
    try:
        choose_device(config.runtime, facts.device)
        require_precision(facts.device, {"train.precision": config.train.precision})
    except ConfigError as error:
        yield Problem(error.problem, error.fix)


def _first_files(config: StudyConfig) -> list[tuple[str, SourceFile]]:
    """One file of each source. The bases, exams and tokenizers are read by the driver, which has proven them."""
    wanted = []
    for source in config.read_sources:
        paths = source.path if source.dataset is None else ()
        wanted += [(f"source {source.name}", list_source_files(path)[0]) for path in paths]
    return wanted


def _path(folder: str | None) -> Path | None:
    return None if folder is None else Path(folder)


@contextlib.contextmanager
def _marked(root: Path) -> Iterator[str]:
    name = f".nodes-{secrets.token_hex(6)}"
    write_atomic(root / name, "")
    try:
        yield name
    finally:
        store.remove(root / name)
        (root / name).unlink(missing_ok=True)
