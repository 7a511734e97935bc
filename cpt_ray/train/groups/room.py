"""How many groups of workers a cluster holds, and a refusal where it holds none: pure functions over its nodes.

In: the `runtime` section, the nodes as `edges.ray_runtime` reads them. Out: numbers of groups and of scoring tasks, a warning
or an error that says what the cluster has. Ray itself waits without a limit for a placement that no node can serve.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError
from cpt_ray.records import ClusterNode

_ROUNDING = 1e-6


def has_labels(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node has the labels that a selector asks for, by Ray's rules: `x`, `!x`, `in(x, y)`, `!in(x, y)`."""
    for label, asked in selector.items():
        value = asked.removeprefix("!")
        several = value.removeprefix("in(").removesuffix(")").split(",") if value.startswith("in(") else [value]
        if (labels.get(label) in {one.strip() for one in several}) == asked.startswith("!"):
            return False
    return True


def groups_that_fit(runtime: RuntimeConfig, nodes: Sequence[ClusterNode], *, workers: int) -> int:
    """How many groups of that many workers the nodes hold at once, whatever else runs on them."""
    slots = [_slots(runtime.worker_demand, node) for node in nodes if has_labels(node.labels, runtime.label_selector)]
    if runtime.placement_strategy == "STRICT_PACK":
        return sum(free // workers for free in slots)
    most = sum(slots) // workers
    if runtime.placement_strategy == "STRICT_SPREAD":
        # A group has at most one worker on a node, so of that many groups a node holds at most one worker each.
        return max(count for count in range(most + 1) if sum(min(free, count) for free in slots) >= count * workers)
    return most


def require_room(runtime: RuntimeConfig, nodes: Sequence[ClusterNode], *, may_grow: bool) -> str | None:
    """Refuse to wait for a placement that the cluster's nodes cannot serve.

    Args:
        runtime: The `runtime` section.
        nodes: The living nodes.
        may_grow: Whether an autoscaler may add others.

    Returns:
        A warning if only nodes that are still to come could serve it, or None.

    Raises:
        ConfigError: If no node can; says what is asked for, and what the cluster has.
    """
    workers = runtime.workers.min
    if groups_that_fit(runtime, nodes, workers=workers):
        return None
    strategy = f", placed {runtime.placement_strategy}" if runtime.placement_strategy != "PACK" else ""
    labels = ", ".join(f"{label}: {value}" for label, value in runtime.label_selector.items())
    asked = f"{workers} training worker(s) with {_amounts(runtime.worker_demand)} each{strategy}"
    asked += f", on nodes labeled {labels}" if labels else ""
    has = f"the cluster has {_describe(runtime, nodes)}"
    if may_grow:
        return f"runtime asks for {asked}; {has}: the workers wait for nodes that can serve it"
    raise ConfigError(
        f"runtime asks for {asked}, which cannot be placed: {has}",
        fix="lower runtime.workers or what each asks for, change runtime.placement_strategy or runtime.label_selector, or add "
        "nodes",
    )


def parallel_groups(
    runtime: RuntimeConfig, nodes: Sequence[ClusterNode], *, private: bool, may_grow: bool
) -> tuple[int, str | None]:
    """How many groups may train at once, at least one.

    Args:
        runtime: The `runtime` section.
        nodes: The living nodes.
        private: Whether it is a private Ray on this machine.
        may_grow: Whether an autoscaler adds nodes for groups that wait.

    Returns:
        The number, and a warning if it is lower than `runtime.parallel_runs`, or None.
    """
    asked = runtime.parallel_runs
    if asked == "auto":
        if private and not runtime.gpus_per_worker:  # its CPUs are counted, not there; and groups would share the memory
            return 1, None
        workers = runtime.workers.max
        fit = groups_that_fit(runtime, nodes, workers=workers)
        left = _total(nodes, "CPU") - fit * workers * runtime.cpus_per_worker
        return max(1, fit if left >= 1 else fit - 1), None
    fit = max(1, groups_that_fit(runtime, nodes, workers=runtime.workers.min))
    if may_grow or asked <= fit:
        return asked, None
    return fit, (
        f"runtime.parallel_runs is {asked}, but the cluster has {_describe(runtime, nodes)}, which hold {fit} group(s) of "
        f"{runtime.workers} worker(s): {fit} train(s) at once; lower it, or add nodes, which are used as they come"
    )


def scoring_room(runtime: RuntimeConfig, nodes: Sequence[ClusterNode], *, groups: int, cores: int | None = None) -> int:
    """How many models may be scored beside that many groups of workers.

    Args:
        runtime: The `runtime` section.
        nodes: The living nodes.
        groups: Groups that train, or may start at any moment.
        cores: CPUs that are really there, for a private Ray, which counts more; None for all that the nodes have.
    """
    workers = groups * runtime.workers.max
    cpus = _total(nodes, "CPU") if cores is None else cores
    room = cpus - workers * runtime.cpus_per_worker
    if runtime.scoring_gpus:
        room = min(room, (_total(nodes, "GPU") - workers * runtime.gpus_per_worker) / runtime.scoring_gpus)
    return max(0, min(math.floor(room + _ROUNDING), runtime.evaluate_workers))


def _slots(demand: Mapping[str, float], node: ClusterNode) -> int:
    """How many workers a node holds."""
    return min(math.floor(node.resources.get(name, 0) / need + _ROUNDING) for name, need in demand.items())


def _total(nodes: Sequence[ClusterNode], resource: str) -> float:
    return sum(node.resources.get(resource, 0) for node in nodes)


def _describe(runtime: RuntimeConfig, nodes: Sequence[ClusterNode]) -> str:
    """The nodes by what they have of what is asked for; those that are alike once."""
    names = list(runtime.worker_demand)
    found = Counter(
        _amounts({name: node.resources.get(name, 0) for name in names})
        + ("" if has_labels(node.labels, runtime.label_selector) else " without these labels")
        for node in nodes
    )
    return "; ".join(f"{number} node{'s' if number > 1 else ''} with {what}" for what, number in found.items()) or "no node"


def _amounts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in resources.items())
