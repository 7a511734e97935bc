"""What is printed, mirrored and committed while several runs train."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cpt_ray.records import RunEvent, RunRecord, StepMetrics
from cpt_ray.study.live.lines import describe_running
from cpt_ray.study.live.observer import StudyObserver
from cpt_ray.study.stages.stage import LiveRun
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.train.monitor.metrics import METRICS, LineWriter
from tests.run_records import run_steps, training
from tests.study.live.test_lines import step
from tests.study.planned import BareSession, graph_of

TRUNK, SMALL = 0, 1


class Watched(BareSession):
    """Remembers progress lines and what was mirrored."""

    def __init__(self, root) -> None:
        super().__init__(root)
        self.lines: list[str] = []
        self.mirrored: list[tuple[str, Sequence[StepMetrics]]] = []
        self.console.progress = self.lines.append

    def live_run(self, node):
        spec = node.work.spec.model_copy(update={"name": f"{node.name}@half"})
        return LiveRun(spec, lambda steps: self.mirrored.append((spec.name, steps())))


@pytest.fixture
def watched(tiny):
    graph = graph_of(tiny)
    session = Watched(graph.root)
    return session, graph.of(TRAIN), StudyObserver(graph.of(TRAIN), session)


def test_runs_that_train_together_share_a_line_under_their_names_in_the_study(watched):
    session, nodes, observer = watched
    observer.begun(TRUNK)
    LineWriter(nodes[TRUNK].folder, METRICS, 1).write(step(1))
    observer.stepped(TRUNK, run_steps(step(1)))
    assert session.lines[-1].startswith(f"  run 1/{len(nodes)} {nodes[TRUNK].name}@half  ")
    observer.begun(SMALL)
    observer.stepped(SMALL, run_steps(step(1), step(2)))
    assert session.lines[-1].startswith(f"  0/{len(nodes)} runs done, 2 in training: {nodes[TRUNK].name}@half ")
    assert f"; {nodes[SMALL].name}@half " in session.lines[-1]
    assert session.mirrored == [(f"{nodes[TRUNK].name}@half", (step(1),)), (f"{nodes[SMALL].name}@half", ())]


def test_a_run_that_is_done_is_committed_and_leaves_the_line(watched):
    session, nodes, observer = watched
    for place in (TRUNK, SMALL):
        observer.begun(place)
        observer.stepped(place, run_steps(step(1)))
    nodes[SMALL].folder.mkdir(parents=True)
    done = RunRecord(run="r", kind="cooldown", model="m", export_path=None, annealed=True, training=training(100))
    observer.done(SMALL, done)
    assert session.committed == [nodes[SMALL].label]
    observer.stepped(TRUNK, run_steps(step(1), step(2)))
    assert nodes[SMALL].name not in session.lines[-1]


def test_events_name_their_run(watched):
    session, nodes, observer = watched
    observer.happened(SMALL, RunEvent(kind="hang", attempt=1, step=7, tokens_seen=1, text="no worker has moved"))
    assert session.console.said == [f"{nodes[SMALL].name}@half  step 7  hang: no worker has moved"]


def test_a_line_of_several_runs_has_share_time_left_and_loss_of_each(tiny):
    specs = [node.work.spec for node in graph_of(tiny).of(TRAIN)][:2]
    line = describe_running([(spec, run_steps(step(1), step(2))) for spec in specs], 1, 4)
    assert line.startswith("  1/4 runs done, 2 in training: ")
    assert line.count("loss 2.500") == line.count(", ETA ") == 2
