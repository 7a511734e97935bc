"""Which placements a cluster can serve, how many groups it holds, and what is said where it holds none."""

from __future__ import annotations

import pytest

from cpt_ray.config.sections.runtime import RuntimeConfig
from cpt_ray.errors import ConfigError
from cpt_ray.records import ClusterNode
from cpt_ray.train.groups.room import groups_that_fit, parallel_groups, require_room, scoring_room


def nodes(*cpus: float, gpus: float = 0, **labels: str) -> list[ClusterNode]:
    return [ClusterNode(f"node-{i}", {"CPU": cpu, "GPU": gpus}, labels) for i, cpu in enumerate(cpus)]


@pytest.mark.parametrize(
    ("strategy", "cpus", "workers", "fit"),
    [
        ("PACK", (2, 2, 2), 2, 3),
        ("SPREAD", (3, 1), 2, 2),
        ("PACK", (3, 1), 2, 2),
        ("STRICT_PACK", (3, 1), 2, 1),
        ("STRICT_PACK", (1, 1), 2, 0),
        ("STRICT_SPREAD", (4, 4), 2, 4),
        ("STRICT_SPREAD", (8, 1), 2, 1),
        ("STRICT_SPREAD", (8,), 2, 0),
        ("STRICT_SPREAD", (2, 1, 1), 2, 2),
    ],
)
def test_groups_are_counted_by_the_rule_of_placement(strategy, cpus, workers, fit):
    runtime = RuntimeConfig(workers=workers, placement_strategy=strategy)
    assert groups_that_fit(runtime, nodes(*cpus), workers=workers) == fit


def test_every_resource_and_label_limits_the_groups():
    mixed = [*nodes(64), *nodes(8, 8, gpus=4, market="spot"), *nodes(8, gpus=4, market="on-demand")]
    gpus = RuntimeConfig(workers=2, gpus_per_worker=1)
    assert groups_that_fit(gpus, mixed, workers=2) == 6
    assert groups_that_fit(gpus.model_copy(update={"label_selector": {"market": "!spot"}}), mixed, workers=2) == 2
    special = RuntimeConfig(worker_resources={"a100": 1})
    assert groups_that_fit(special, mixed, workers=1) == 0
    assert groups_that_fit(special, [ClusterNode("a", {"CPU": 8, "a100": 3}, {})], workers=1) == 3


def test_auto_is_what_the_cluster_holds_with_a_cpu_left():
    def auto(*cpus: float, private: bool = False, gpus: float = 0, **settings) -> int:
        return parallel_groups(RuntimeConfig(**settings), nodes(*cpus, gpus=gpus), private=private, may_grow=False)[0]

    assert auto(6, workers=2) == 2
    assert auto(7, workers=2) == 3
    assert auto(2, workers=2) == 1
    assert auto(1, workers=2) == 1  # Ray waits, or the study was refused before
    assert auto(64, workers=2, private=True) == 1
    assert auto(64, gpus=4, workers=2, gpus_per_worker=1, private=True) == 2
    assert auto(4, 4, workers={"min": 1, "max": 3}) == 2


def test_auto_on_a_cluster_that_grows_is_what_it_may_become():
    gpus = RuntimeConfig(workers=2, gpus_per_worker=1, cpus_per_worker=4, label_selector={"cpt-ray-group": "train"})
    at_most = [*nodes(*[16.0] * 8), *nodes(*[8.0] * 8, gpus=1)]

    def auto(*there: ClusterNode, largest=at_most, **settings) -> tuple[int, str | None]:
        runtime = gpus.model_copy(update=settings)
        return parallel_groups(runtime, there, private=False, may_grow=True, at_most=largest)

    assert auto() == (4, None)
    assert auto(*nodes(8, 8, gpus=1, **{"cpt-ray-group": "train"})) == (4, None)
    assert auto(largest=[]) == (1, None)
    assert auto(largest=nodes(8, 8, gpus=1), cpus_per_worker=8) == (1, None)
    assert auto(largest=nodes(*[8.0] * 4, gpus=1), cpus_per_worker=8) == (1, None)  # no CPU would be left beside two


def test_more_groups_than_the_cluster_holds_are_capped_and_it_is_said_why():
    runtime = RuntimeConfig(workers=2, parallel_runs=4)
    held, warning = parallel_groups(runtime, nodes(3, 2), private=False, may_grow=False)
    assert held == 2
    assert warning == (
        "runtime.parallel_runs is 4, but the cluster has 1 node with CPU 3; 1 node with CPU 2, which hold 2 group(s) of 2 "
        "worker(s): 2 train(s) at once; lower it, or add nodes, which are used as they come"
    )
    assert parallel_groups(runtime, nodes(4, 4), private=False, may_grow=False) == (4, None)
    assert parallel_groups(runtime, nodes(3, 2), private=False, may_grow=True) == (4, None)


def test_a_placement_that_no_node_can_serve_is_refused_with_what_there_is():
    runtime = RuntimeConfig(workers=2, cpus_per_worker=4, placement_strategy="STRICT_SPREAD", label_selector={"zone": "a"})
    there = [*nodes(8, 8, zone="b"), *nodes(8, zone="a")]
    with pytest.raises(ConfigError) as error:
        require_room(runtime, there, may_grow=False)
    assert error.value.problem == (
        "runtime asks for 2 training worker(s) with CPU 4 each, placed STRICT_SPREAD, on nodes labeled zone: a, which cannot "
        "be placed: the cluster has 2 nodes with CPU 8 without these labels; 1 node with CPU 8"
    )
    assert "change runtime.placement_strategy or runtime.label_selector, or add nodes" in error.value.fix
    warning = require_room(runtime, there, may_grow=True)
    assert "the workers wait for nodes that can serve it" in str(warning)
    assert require_room(runtime, [*there, *nodes(4, zone="a")], may_grow=False) is None


def test_scoring_gets_what_no_group_can_need():
    runtime = RuntimeConfig(workers=2, evaluate_workers=4)
    assert scoring_room(runtime, nodes(6), groups=2) == 2
    assert scoring_room(runtime, nodes(64), groups=2) == 4
    assert scoring_room(runtime, nodes(6), groups=3) == 0
    assert scoring_room(runtime, nodes(3), groups=1, cores=2) == 0  # a private Ray on two cores counts three
    gpus = RuntimeConfig(workers=2, gpus_per_worker=1, evaluate_gpus=0.25, evaluate_workers=8)
    assert scoring_room(gpus, nodes(64, gpus=5), groups=2) == 4
    assert scoring_room(gpus, nodes(64, gpus=4), groups=2) == 0
