"""The memory timeline: real allocations and releases, merged phases, and nothing measured between measured steps."""

from __future__ import annotations

import mmap

import pytest
import torch

from cpt_ray.train.monitor.memory import BETWEEN, MemoryTimeline, Sample

MEGABYTE = 1 << 20

pytestmark = pytest.mark.usefixtures("one_worker")


@pytest.fixture
def timeline() -> MemoryTimeline:
    return MemoryTimeline(torch.device("cpu"))


def fill(megabytes):
    """Memory from the system: a tensor may be given what an earlier test has freed, and the process would not grow."""
    memory = mmap.mmap(-1, megabytes * MEGABYTE)
    for _ in range(megabytes):
        memory.write(b"\x01" * MEGABYTE)
    return memory


def test_a_peak_belongs_to_the_phase_that_had_it(timeline):
    timeline.enter("forward", 1)
    fill(64).close()
    timeline.enter("step", 1)
    kept = fill(16)
    forward, step = timeline.gather(attempt=1, tokens_seen=7)
    assert [(point.phase, point.step, point.tokens_seen, point.attempt) for point in (forward, step)] == [
        ("forward", 1, 7, 1),
        ("step", 1, 7, 1),
    ]
    assert forward.host_peak_bytes is not None, "this kernel cannot reset the peak"
    assert forward.host_peak_bytes >= forward.host_bytes + 32 * MEGABYTE
    assert step.host_peak_bytes < forward.host_peak_bytes - 32 * MEGABYTE
    assert forward.host_peak_bytes_most == forward.host_peak_bytes
    assert (forward.device_bytes, forward.device_peak_bytes, forward.device_peak_bytes_most) == (None, None, None)
    kept.close()


def test_micro_batches_of_a_step_are_one_phase(timeline):
    for _ in range(3):
        timeline.enter("forward", 1)
        timeline.enter("backward", 1)
    timeline.enter("forward", 2)
    assert [(point.phase, point.step) for point in timeline.gather(attempt=1, tokens_seen=0)] == [
        ("forward", 1),
        ("backward", 1),
        ("forward", 2),
    ]
    assert timeline.gather(attempt=1, tokens_seen=0) == []


def test_between_measured_steps_one_phase_stands_for_all_but_what_comes_rarely(timeline):
    timeline.measure_next(False)
    for step in (1, 2):
        for phase in ("data", "forward", "backward", "step"):
            timeline.enter(phase, step)
    timeline.enter("checkpoint", 2)
    timeline.enter("forward", 3)
    timeline.measure_next(True)
    timeline.enter("forward", 4)
    phases = [(point.phase, point.step) for point in timeline.gather(attempt=1, tokens_seen=0)]
    assert phases == [(BETWEEN, 1), ("checkpoint", 2), (BETWEEN, 3), ("forward", 4)]


@pytest.mark.parametrize(("one", "two", "most"), [(5, 3, 5), (None, 3, 3), (5, None, 5), (None, None, None)])
def test_joining_keeps_the_highest_peak_that_is_known_and_the_last_level(one, two, most):
    first = Sample("forward", 1, host=10, host_peak=one, device=1, device_peak=two)
    joined = first.joined(Sample("forward", 1, host=20, host_peak=two, device=2, device_peak=one))
    assert (joined.host, joined.host_peak, joined.device, joined.device_peak) == (20, most, 2, most)
