"""The queue as an actor: other processes ask it and get the answers that the driver's own object would give."""

from __future__ import annotations

import pytest

from cpt_ray.records import Heartbeat
from tests.train.tiny_run import make_task, spec_named, tiny_config

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session_2cpu")]


def test_workers_of_a_group_ask_the_drivers_queue(root):
    import ray

    from cpt_ray.edges.ray_runtime import cluster_may_grow, cluster_nodes
    from cpt_ray.train.groups.under_ray import QueueActor

    config = tiny_config(root, budgets=[8000])
    tasks = [make_task(root, config, spec_named(config, arm), f"asked/{arm}") for arm in ("legal", "control")]
    queue = QueueActor(tasks)
    assert queue.wanted() == 2
    assert [queue.open(group) for group in (0, 1, 2)] == [True, True, False]

    @ray.remote(num_cpus=0)
    def ask(asked, group):
        return asked.take(group, None)

    assert ray.get([ask.remote(queue, group) for group in (0, 1, 0)]) == [0, 1, 0]
    assert queue.given() == [0, 1]

    @ray.remote(num_cpus=0)
    def live(asked, rank):
        beat = Heartbeat(rank=rank, world_size=2, host="there", pid=rank, phase="steps", step=3, moves=9, time=0.0)
        return asked.beat(0, beat)

    assert ray.get([live.remote(queue, rank) for rank in (0, 1)]) == [False, False]
    assert [(beat.rank, beat.host) for beat in queue.beats(0)] == [(0, "there"), (1, "there")]
    queue.close(0, failed=True)
    assert queue.take(0, None) == 0  # its workers are gone; the run is not given to another group
    assert queue.run_of(1) == 1
    assert queue.wanted() == 0
    queue.stop()
    assert ray.get(live.remote(queue, 0))
    assert queue.take(1, 1) == "end"

    (node,) = cluster_nodes()
    assert node.resources["CPU"] == 6
    assert not cluster_may_grow()
