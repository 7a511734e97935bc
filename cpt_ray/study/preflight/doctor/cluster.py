"""Every node of a study's Ray cluster: what keeps it from working for the study, and what its machine has.

In: a study with `runtime.kind: ray`. Out: findings named after their nodes. Joins the cluster and starts nothing of a study; a
private Ray has this machine only, which is looked at without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cpt_ray.config.study import StudyConfig
from cpt_ray.edges.packages import is_installed
from cpt_ray.edges.ray_runtime import cluster_address
from cpt_ray.records import Finding
from cpt_ray.study.preflight.doctor.step import StepSettings
from cpt_ray.study.store import resolve_root


def on_cluster(config: StudyConfig) -> bool:
    """Whether the study works on the nodes of a cluster, of which this machine may be none."""
    return config.runtime.kind == "ray" and cluster_address(config.runtime) is not None


def check_cluster(config: StudyConfig, steps: StepSettings | None = None) -> Iterator[Finding]:
    """All nodes, one after another.

    Args:
        config: The study.
        steps: For a training step on each node that workers may run on, all at once; None: none.

    Raises:
        CptRayError: If the cluster cannot be joined.
    """
    if config.runtime.kind != "ray" or not is_installed("ray"):
        return
    if not on_cluster(config):
        yield Finding("nodes", "a private Ray: this machine is the only node")
        return
    from cpt_ray.edges.ray_runtime import ray_session
    from cpt_ray.study.preflight.node_probe import examine_nodes, steps_on_nodes
    from cpt_ray.study.preflight.nodes import Room, judge_nodes

    scratch = Path(config.runtime.scratch) if config.runtime.scratch else None
    with ray_session(config.runtime):
        root = resolve_root(config.study.root, config.runtime.scratch)
        # The checks of each node's software say what an offload would lack.
        judged = judge_nodes(config, root, room=Room(), models={}, offloads=False)
        examined = examine_nodes(scratch)
        taken = steps_on_nodes(config.runtime, steps) if steps is not None else {}
    for node, problems in judged:
        what = f"node {node.name}"
        for problem in problems:
            yield Finding(what, problem.what, "fail", problem.fix)
        step = taken.get(node.node.id)
        found = [*(examined.get(node.name) or []), *([step] if step else [])]
        for one in found:
            if one.level != "ok":
                yield Finding(what, f"{one.what}: {one.found}", one.level, one.fix)
        if not problems and all(one.level == "ok" for one in found):
            yield Finding(what, f"{node.cpus:g} CPUs, {node.gpus:g} GPUs, ready{f'; {step.found}' if step else ''}")
