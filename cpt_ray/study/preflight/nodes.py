"""Every node of a Ray cluster, asked before anything long begins: one table with what is wrong where, and how to fix it.

In: the study, a joined cluster. Out: what `newcomers` needs to ask those that join later, or an error with the table.
`node_probe` asks; the rules are here.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cpt_ray.config.devices import choose_device, require_precision
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges import store
from cpt_ray.edges.packages import versions
from cpt_ray.edges.ray_runtime import cluster_may_grow, nodes_at_most, own_node, working_nodes
from cpt_ray.edges.source_files import SourceFile, list_source_files
from cpt_ray.edges.storage import write_atomic
from cpt_ray.errors import ConfigError
from cpt_ray.records import MemoryPlan
from cpt_ray.study.preflight.node_probe import ANSWER_S, DISTRIBUTIONS, AskedNode, NodeFacts, Wanted, ask_nodes, code_hash
from cpt_ray.study.stages.stage import Console
from cpt_ray.train.groups.room import parallel_groups, workers_on

_SKEW_S = 5.0
"""Clocks further apart than this make leases and heartbeats look stale."""
_GIB = 1 << 30
_COPIES = 3
"""Of text in a node's mirror of a bucket: clean, with its duplicates' keys, and packed."""


class Problem(NamedTuple):
    """What is wrong on a node."""

    what: str
    fix: str


Judged: TypeAlias = Sequence[tuple[AskedNode, Sequence[Problem]]]
"""Nodes with what is wrong on each."""


@dataclass(frozen=True)
class Demands:
    """What the study needs of a node that works for it."""

    config: StudyConfig
    here: Mapping[str, str]
    """Versions of the driver."""
    code: str
    """Hash of the driver's source."""
    room: Room
    offloads: bool
    """Whether the optimizer is kept in the memory of the host."""


@dataclass(frozen=True)
class Room:
    """What a study takes of the disk of a node, in bytes."""

    worker: int = 0
    """Of a training worker: its share of the checkpoints that wait for their upload."""
    workers: int = 1
    """Training workers at once, of all groups together."""
    model: int = 0
    """Of a root in a bucket: a base and an export."""
    text: int = 0
    """Of a root in a bucket: `runtime.cache`, else all text and shards."""
    unit: int = 0
    """Of the text, what a unit in work takes; 0 where `runtime.cache` is set, and fills up."""


class Planned(NamedTuple):
    """What is planned of a study, as far as it takes room."""

    memory: Sequence[MemoryPlan]
    """Of its models."""
    text_bytes: float
    """Of its sources; 0 where they do not say."""
    runs: int
    models: Mapping[str, Path]
    """Name of each model that is imported already to a file of it in the root."""
    offloads: bool
    """Whether a cell keeps the optimizer in the memory of the host."""


class Examination(NamedTuple):
    """The nodes that were fit when a study began, and how to ask those that join it."""

    known: frozenset[str]
    """Ray's ids of the nodes that were asked."""
    judge: Callable[[Collection[str]], Judged]
    """Asks the nodes of these ids the same."""


def require_nodes(config: StudyConfig, root: Path, planned: Planned, console: Console) -> Examination:
    """Ask every node; Ray has been joined.

    Args:
        config: The study.
        root: Its root.
        planned: What it takes of the nodes' disks, and the models that they read.
        console: Where the result is said.

    Raises:
        ConfigError: With a table of all nodes, if something is wrong on one that works for the study.
    """
    started = time.monotonic()
    at_most = nodes_at_most() if cluster_may_grow() else []
    nodes = working_nodes(config.runtime)
    groups, _ = parallel_groups(config.runtime, nodes, private=False, may_grow=bool(at_most), at_most=at_most)
    room = room_needed(config, planned, groups=groups, in_bucket=store.is_mirrored(root))
    judge = functools.partial(judge_nodes, config, root, room=room, models=planned.models, offloads=planned.offloads)
    found = judge()
    if (error := refusal(found)) is not None:
        raise error
    later = ", those that join later are asked then" if at_most else ""
    console.say(f"nodes: {len(found)} asked in {time.monotonic() - started:.1f} s, all ready{later}")
    return Examination(frozenset(node.node.id for node, _ in found), judge)


def refusal(found: Judged) -> ConfigError | None:
    """The table of all that were asked, if something is wrong on one of them."""
    fixes = dict.fromkeys(problem.fix for _, wrong in found for problem in wrong)
    if not fixes:
        return None
    return ConfigError(f"not every node of the cluster can work for this study:\n{table(found)}", fix="; ".join(fixes))


def room_needed(config: StudyConfig, planned: Planned, *, groups: int, in_bucket: bool) -> Room:
    """What a study takes of a node's disk.

    Args:
        config: The study.
        planned: What is planned of it.
        groups: Groups that may train at once.
        in_bucket: Whether its root is, of which each node then has a mirror.
    """
    group, cache = config.runtime.group, config.runtime.cache
    share = max(one.checkpoint_bytes for one in planned.memory) // group.min
    workers = min(groups, max(1, planned.runs)) * group.max
    if not in_bucket:
        return Room(share, workers)
    return Room(
        worker=2 * share,  # the one that is sent, and the one before
        workers=workers,
        model=2 * max(one.export_bytes for one in planned.memory),
        text=cache or int(_COPIES * planned.text_bytes),
        unit=0 if cache else _COPIES * config.prepare.unit_bytes,
    )


def judge_nodes(
    config: StudyConfig,
    root: Path,
    among: Collection[str] | None = None,
    *,
    room: Room,
    models: Mapping[str, Path],
    offloads: bool,
) -> Judged:
    """Nodes of the cluster, which has been joined, with what keeps each from working for the study.

    Args:
        config: The study.
        root: Its root.
        among: Ray's ids of the nodes; None: all.
        room: What the study takes of a node's disk.
        models: See `Planned`.
        offloads: Whether the optimizer is kept in the memory of the host.
    """
    with _marked(root) as mark:
        # With the driver's node: it has ports that the others must reach.
        asked = None if among is None else {*among, own_node()}
        nodes = ask_nodes(Wanted(root, mark, _path(config.runtime.scratch), _first_files(config), models), asked)
    demands = Demands(config, versions(*DISTRIBUTIONS), code_hash(), room, offloads)
    return [(node, list(problems(node, demands))) for node in nodes if among is None or node.node.id in among]


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
        if key.startswith("model "):
            yield Problem(f"{key}: {reason}", "let every node read study.root with the rights that the driver has")
        else:
            yield Problem(f"{key}: {reason}", f"put what {key} names where every node reads it under that name")
    yield from _no_room(node, facts, demands)
    if demands.offloads and not facts.compiler:
        yield Problem(
            "no C++ compiler, and DeepSpeed's CPUAdam is not built, which the offload in train.deepspeed needs",
            "install g++ there, or run make setup there",
        )
    if runtime.gpus_per_worker > 0 and node.gpus > 0:
        yield from _card(facts, demands.config)


def _no_room(node: AskedNode, facts: NodeFacts, demands: Demands) -> Iterator[Problem]:
    """What a node's disk does not hold of all that may come to it at once."""
    room = demands.room
    workers = min(room.workers, workers_on(demands.config.runtime, node.node))
    parts = {
        f"checkpoints of {workers} worker(s)": workers * room.worker,
        "models": room.model if workers else 0,
        "text and shards": min(room.text, int(node.cpus) * room.unit) if room.unit else room.text,
    }
    needed = sum(parts.values())
    if facts.scratch_free_bytes < needed:
        what = ", ".join(f"{name} {size / _GIB:.1f}" for name, size in parts.items() if size)
        yield Problem(
            f"{facts.scratch}: {facts.scratch_free_bytes / _GIB:.1f} GiB free, {needed / _GIB:.1f} GiB needed ({what})",
            "set runtime.scratch to a folder on a larger disk, which exists on every node"
            + (", or lower runtime.cache" if demands.config.runtime.cache else ""),
        )


def table(found: Judged) -> str:
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
