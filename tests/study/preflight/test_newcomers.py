"""Nodes that join while a study is at work are asked; one that is not fit interrupts it, with what is wrong and its fix."""

from __future__ import annotations

import threading
import time

import pytest

from cpt_ray.edges.device import read_device
from cpt_ray.errors import ConfigError
from cpt_ray.records import ClusterNode
from cpt_ray.study.preflight import newcomers as module
from cpt_ray.study.preflight.newcomers import newcomers_asked
from cpt_ray.study.preflight.node_probe import AskedNode, NodeFacts
from cpt_ray.study.preflight.nodes import Problem

pytestmark = pytest.mark.accept(cluster=4)
LIMIT_S = 20
OLD = Problem("torch 2.0 (driver 2.13)", "install the same versions on every node")


class MadeUpCluster:
    """Nodes by id, with what is wrong on each; None for one that does not answer."""

    def __init__(self) -> None:
        self.nodes: dict[str, list[Problem] | None] = {"first": []}
        self.asked: list[set[str]] = []

    def living(self) -> list[ClusterNode]:
        return [ClusterNode(name, {"CPU": 1.0}, {}, id=name) for name in self.nodes]

    def judge(self, among):
        self.asked.append(set(among))
        found = []
        for name in among:
            wrong = self.nodes.get(name)
            facts = None if wrong is None else FACTS
            node = AskedNode(name, cpus=1, gpus=0, facts=facts, skew_s=0.0, node=ClusterNode(name, {}, {}, id=name))
            found.append((node, [Problem("did not answer", "look")] if wrong is None else wrong))
        return found


FACTS = NodeFacts(
    host="h", python="3.11", code="", versions={}, clock_s=0.0, root_problem="", scratch="", scratch_free_bytes=0,
    compiler=True, device=read_device(ask_torch=False),
)  # fmt: skip


@pytest.fixture
def cluster(monkeypatch):
    made_up = MadeUpCluster()
    monkeypatch.setattr(module, "cluster_nodes", made_up.living)
    monkeypatch.setattr(module, "joined", lambda: True)
    monkeypatch.setattr(module, "EVERY_S", 0.02)
    return made_up


def wait_for(happened) -> None:
    end = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nodes_that_were_asked_are_not_asked_again_and_those_that_join_are_asked_once(cluster):
    with newcomers_asked(["first"], cluster.judge):
        time.sleep(0.1)
        assert cluster.asked == []
        cluster.nodes |= {"second": [], "third": []}
        wait_for(lambda: cluster.asked)
        time.sleep(0.1)
        assert cluster.asked in ([{"second", "third"}], [{"second"}, {"third"}])


def test_one_that_is_not_fit_takes_the_place_of_the_interrupt(cluster):
    said = r"(?s)not every node .*second +1 CPUs +0 GPUs +torch 2\.0"
    with pytest.raises(ConfigError, match=said) as error, newcomers_asked(["first"], cluster.judge):
        cluster.nodes["second"] = [OLD]
        time.sleep(LIMIT_S)
    assert error.value.fix == OLD.fix
    assert isinstance(error.value.__cause__, KeyboardInterrupt)


def test_another_error_is_left_as_it_is_where_all_nodes_are_fit(cluster):
    with pytest.raises(ValueError, match="another"), newcomers_asked(["first"], cluster.judge):
        raise ValueError("another")


def test_one_that_does_not_answer_is_asked_again_and_then_no_more(cluster, caplog):
    with newcomers_asked(["first"], cluster.judge) as watch:
        cluster.nodes["slow"] = None
        wait_for(lambda: len(cluster.asked) > 2)
        assert caplog.text.count("node slow has joined and does not answer") == 1
        assert watch.error is None
        cluster.nodes["slow"] = []
        count = len(cluster.asked)
        wait_for(lambda: len(cluster.asked) > count)
        time.sleep(0.1)
        count = len(cluster.asked)
        time.sleep(0.1)
        assert len(cluster.asked) == count


def test_a_question_that_fails_is_asked_again(cluster):
    calls = []

    def fails_once(among):
        calls.append(among)
        if len(calls) == 1:
            raise ConnectionError("no answer")
        return cluster.judge(among)

    with newcomers_asked(["first"], fails_once):
        cluster.nodes["second"] = []
        wait_for(lambda: cluster.asked)


def test_nobody_is_asked_after_the_end(cluster):
    with newcomers_asked(["first"], cluster.judge) as watch:
        assert watch in threading.enumerate()
    assert not watch.is_alive()
    cluster.nodes["second"] = [OLD]
    time.sleep(0.1)
    assert cluster.asked == []
