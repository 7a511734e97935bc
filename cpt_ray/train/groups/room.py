"""How many groups of workers a cluster holds, and a refusal where it holds none: pure functions over its nodes.

In: the `runtime` section, the nodes as `edges.ray_runtime` reads them. Out: numbers of groups and of scoring tasks, a warning
or an error that says what the cluster has. Ray itself waits without a limit for a placement that no node can serve.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.edges.ray_runtime import has_labels
from cpt_ray.errors import ConfigError
from cpt_ray.records import ClusterNode

_ROUNDING = 1e-6


def groups_that_fit(runtime: RuntimeConfig, nodes: Sequence[ClusterNode], *, workers: int) -> int:
    """How many groups of that many workers the nodes hold at once, whatever else runs on them."""
    slots = [workers_on(runtime, node) for node in nodes]
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
    has = f"the cluster has {_describe(runtime.worker_demand, runtime.label_selector, nodes)}"
    if may_grow:
        return f"runtime asks for {asked}; {has}: the workers wait for nodes that can serve it"
    raise ConfigError(
        f"runtime asks for {asked}, which cannot be placed: {has}",
        fix="lower runtime.workers or what each asks for, change runtime.placement_strategy or runtime.label_selector, or add "
        "nodes",
    )


def require_labeled(runtime: RuntimeConfig, nodes: Sequence[ClusterNode], *, prepares: bool, scores: bool) -> None:
    """Refuse to wait for nodes with labels or GPUs, to prepare or to score on, that the cluster does not have and will not get.

    Args:
        runtime: The `runtime` section.
        nodes: The living nodes.
        prepares: Whether text is prepared.
        scores: Whether models are scored.

    Raises:
        ConfigError: If no node can; says what is asked for, and what the cluster has.
    """
    wanted = [("prepare_labels", "a unit is prepared", {"CPU": 1.0}, runtime.prepare_labels)] if prepares else []
    gpus = {"GPU": runtime.scoring_gpus} if runtime.scoring_gpus else {}
    wanted += [("evaluate_labels", "a model is scored", {"CPU": 1.0, **gpus}, runtime.evaluate_labels)] if scores else []
    for key, what, demand, labels in wanted:
        if not any(_slots(demand, node) for node in nodes if has_labels(node.labels, labels)):
            asked = ", ".join(f"{label}: {value}" for label, value in labels.items())
            raise ConfigError(
                f"{what} with {_amounts(demand)}{f' on nodes labeled {asked}' if asked else ''} (runtime.{key}), which no node "
                f"has: the cluster has {_describe(demand, labels, nodes)}",
                fix=f"change runtime.{key}, or start nodes that have it: ray start --address=HEAD:PORT --labels=KEY=VALUE",
            )


def parallel_groups(
    runtime: RuntimeConfig,
    nodes: Sequence[ClusterNode],
    *,
    private: bool,
    may_grow: bool,
    at_most: Sequence[ClusterNode] = (),
) -> tuple[int, str | None]:
    """How many groups may train at once, at least one.

    Args:
        runtime: The `runtime` section.
        nodes: The living nodes.
        private: Whether it is a private Ray on this machine.
        may_grow: Whether an autoscaler adds nodes for groups that wait.
        at_most: The nodes that it may have in the end, whatever their labels.

    Returns:
        The number, of which a study with fewer runs uses as many as it has runs; and a warning if it is lower than
        `runtime.parallel_runs`, or None.
    """
    asked = runtime.parallel_runs
    if asked == "auto":
        if private and not runtime.gpus_per_worker:  # its CPUs are counted, not there; and groups would share the memory
            return 1, None
        unlabeled = runtime.model_copy(update={"label_selector": {}})
        return max(1, _with_a_cpu_left(runtime, nodes), _with_a_cpu_left(unlabeled, at_most)), None
    workers, unlabeled = runtime.workers.min, runtime.model_copy(update={"label_selector": {}})
    fit = max(1, groups_that_fit(runtime, nodes, workers=workers), groups_that_fit(unlabeled, at_most, workers=workers))
    if asked <= fit or (may_grow and not at_most):
        return asked, None
    has = f"has {_describe(runtime.worker_demand, runtime.label_selector, nodes)}"
    if may_grow:
        has = f"may have at most {_describe(runtime.worker_demand, {}, at_most)}"
    return fit, (
        f"runtime.parallel_runs is {asked}, but the cluster {has}, which hold {fit} group(s) of "
        f"{runtime.workers} worker(s): {fit} train(s) at once; lower it, or add nodes, which are used as they come"
    )


def workers_on(runtime: RuntimeConfig, node: ClusterNode) -> int:
    """How many training workers a node holds, of however many groups."""
    return _slots(runtime.worker_demand, node) if has_labels(node.labels, runtime.label_selector) else 0


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


def _with_a_cpu_left(runtime: RuntimeConfig, nodes: Sequence[ClusterNode]) -> int:
    """How many groups fit beside a task of one CPU."""
    workers = runtime.workers.max
    fit = groups_that_fit(runtime, nodes, workers=workers)
    left = _total(nodes, "CPU") - fit * workers * runtime.cpus_per_worker
    return fit if left >= 1 else fit - 1


def _slots(demand: Mapping[str, float], node: ClusterNode) -> int:
    """How many workers a node holds."""
    return min(math.floor(node.resources.get(name, 0) / need + _ROUNDING) for name, need in demand.items())


def _total(nodes: Sequence[ClusterNode], resource: str) -> float:
    return sum(node.resources.get(resource, 0) for node in nodes)


def _describe(demand: Mapping[str, float], labels: Mapping[str, str], nodes: Sequence[ClusterNode]) -> str:
    """The nodes by what they have of what is asked for; those that are alike once."""
    found = Counter(
        _amounts({name: node.resources.get(name, 0) for name in demand})
        + ("" if has_labels(node.labels, labels) else " without these labels")
        for node in nodes
    )
    return "; ".join(f"{number} node{'s' if number > 1 else ''} with {what}" for what, number in found.items()) or "no node"


def _amounts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in resources.items())
