"""The device of a study, proven before text is prepared: what it is, what it can do, how much memory it has.

In: the study's config. Out: a line for the console, warnings, the card that `plan` measures against; or an error of
`config.devices`. Workers prove their own device again when they start: a cluster's machines are not this one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from cpt_ray.config.devices import choose_device, require_precision, unused_gpus
from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.device import prove_device, read_device
from cpt_ray.edges.ray_runtime import cluster_address, cluster_may_grow, nodes_at_most, private_cpus, working_nodes
from cpt_ray.errors import ConfigError
from cpt_ray.records import Card, ClusterNode
from cpt_ray.study.stages.stage import Console
from cpt_ray.train.groups.room import parallel_groups, require_labeled, require_room

_GIB = 1 << 30
_IN_UNITS = frozenset(("documents", "held_out", "shards", "late_scan", "classifier", "scores", "yield", "derived", "arms"))
"""Stages that prepare text in tasks of Ray."""


def say_device(config: StudyConfig, console: Console) -> None:
    """Print where `runtime.kind: local` would compute, and warn of settings without effect; imports no torch.

    Of a private Ray, warn of a GPU here that its workers would not get.

    Raises:
        ConfigError: If the device that is asked for cannot be used.
    """
    runtime = config.runtime
    if runtime.kind == "ray":
        if cluster_address(runtime) is None and (warning := unused_gpus(runtime, _card_here())) is not None:
            console.warn(warning)
        return
    facts = read_device(ask_torch=False)
    if choose_device(runtime, facts) == "gpu":
        require_precision(facts, _precisions(config, ("train", "evaluate")))
        memory = f", {facts.memory_bytes / _GIB:.1f} GiB" if facts.memory_bytes else ""
        console.say(f"device: {facts.card or 'GPU'}{memory}, driver {facts.driver or 'unknown'}, {facts.torch_build}")
    else:
        console.say(f"device: CPU, {facts.torch_build}")
    if runtime.workers.max > 1:
        console.warn(f"runtime.workers is {runtime.workers}, without effect: runtime.kind local trains in one process")
    if runtime.parallel_runs not in ("auto", 1):
        console.warn(
            f"runtime.parallel_runs is {runtime.parallel_runs}, without effect: runtime.kind local trains one run at a time"
        )


def require_device(config: StudyConfig, building: Collection[str]) -> None:
    """Refuse a device that cannot compute what is to be built.

    Args:
        config: The study.
        building: Names of the stages that have something to build.

    Raises:
        ConfigError: See `config.devices`.
    """
    runtime = config.runtime
    precisions = _precisions(config, building)
    if not precisions:
        return
    if runtime.kind == "local":
        prove_device(runtime, precisions)
    elif runtime.wants_gpu and cluster_address(runtime) is None:  # a private Ray has this machine's GPUs
        choose_device(runtime, read_device(ask_torch=False))


def require_placement(runtime: RuntimeConfig, building: Collection[str], need_ray: Callable[[], None]) -> str | None:
    """Refuse a placement of workers or tasks that the cluster cannot serve; a cluster is joined to ask it.

    Args:
        runtime: The `runtime` section.
        building: Names of the stages that have something to build.
        need_ray: Starts or joins Ray.

    Returns:
        A warning if only nodes that an autoscaler would add could serve it, or fewer runs will train at once than are asked
        for; or None.

    Raises:
        ConfigError: With what the cluster has.
    """
    if runtime.kind == "local":
        return None
    if building and not runtime.use_head:
        _require_other_nodes(runtime, need_ray)
    if not building:
        return None
    private = cluster_address(runtime) is None
    if private:  # known before it starts; whether its GPUs are there is asked when it has
        gpus = max(runtime.workers.max * runtime.gpus_per_worker, runtime.scoring_gpus)
        nodes, may_grow = [ClusterNode("here", {"CPU": private_cpus(runtime), "GPU": gpus}, {})], False
    else:
        need_ray()
        nodes, may_grow = working_nodes(runtime), cluster_may_grow()
    if not may_grow:
        prepares = not _IN_UNITS.isdisjoint(building)
        require_labeled(runtime, nodes, prepares=prepares, scores="evaluate" in building)
    if "train" not in building:
        return None
    if (warning := require_room(runtime, nodes, may_grow=may_grow)) is not None:
        return warning
    at_most = nodes_at_most() if may_grow else []
    return parallel_groups(runtime, nodes, private=private, may_grow=may_grow, at_most=at_most)[1]


def idle_gpus(runtime: RuntimeConfig, building: Collection[str]) -> str | None:
    """A warning if GPUs are there and training would leave them idle; of a cluster, after it was joined."""
    if runtime.kind == "local" or "train" not in building:
        return None
    if cluster_address(runtime) is None:
        return unused_gpus(runtime, _card_here())
    gpus = sum(node.resources.get("GPU", 0.0) for node in working_nodes(runtime))
    return unused_gpus(runtime, f"the cluster has {gpus:g} GPU(s)" if gpus else None)


def _card_here() -> str | None:
    """Which GPU this machine has, if nothing hides it, as a sentence begins with it."""
    facts = read_device(ask_torch=False)
    return None if facts.card is None or facts.hidden_by is not None else f"this machine has a GPU ({facts.card})"


def _require_other_nodes(runtime: RuntimeConfig, need_ray: Callable[[], None]) -> None:
    """Refuse to wait for nodes beside the head where there are none.

    Raises:
        ConfigError: If the head is the only one, and none will come.
    """
    if cluster_address(runtime) is None:
        has = "a private Ray is this machine alone"
    else:
        need_ray()
        if working_nodes(runtime) or cluster_may_grow():
            return
        has = "the cluster has no other node"
    raise ConfigError(
        f"runtime.use_head is false, but {has}", fix="add nodes (ray start --address=HEAD:PORT), or leave runtime.use_head out"
    )


def planned_card(runtime: RuntimeConfig) -> Card | None:
    """The GPU that model states must fit into: as `runtime.gpu_memory` says, else the one of this machine; None without one."""
    if runtime.wants_gpu is False:
        return None
    if runtime.gpu_memory is not None:
        return Card("a GPU of runtime.gpu_memory", runtime.gpu_memory)
    facts = read_device(ask_torch=False)
    if facts.card is None or facts.hidden_by is not None or facts.memory_bytes is None:
        return None
    return Card(facts.card, facts.memory_bytes)


def _precisions(config: StudyConfig, building: Collection[str]) -> dict[str, str]:
    precisions = {"train": config.train.precision, "evaluate": config.evaluate.precision}
    return {f"{stage}.precision": precision for stage, precision in precisions.items() if stage in building}
