"""Two sides take turns: never both at once, a few steps each; a side that fails is an error with its output."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

STEPS = """
import sys, time
for step in range(int(sys.argv[2])):
    started, until = time.monotonic(), time.process_time() + 0.05
    while time.process_time() < until:
        pass
    with open(sys.argv[1], "a") as stream:
        stream.write(f"{started} {time.monotonic()}\\n")
    time.sleep(0.2)  # a turn ends here: well before the next step begins
sys.exit(sys.argv[3] if len(sys.argv) > 3 else 0)
"""


@pytest.fixture
def turns():
    return importlib.import_module("benchmarks.measure.turns")


def side(turns, folder: Path, name: str, *arguments: str):
    lines = folder / f"{name}.steps"
    return turns.Side(
        name=name,
        arguments=["-c", STEPS, str(lines), *arguments],
        environment=dict(os.environ),
        log=folder / f"{name}.log",
        steps_done=lambda: lines.read_text().count("\n") if lines.exists() else 0,
    )


def test_a_few_steps_each_and_the_first_of_a_turn_is_not_measured(turns, tmp_path):
    sides = (side(turns, tmp_path, "a", "8"), side(turns, tmp_path, "b", "8"))
    found = turns.run_in_turns(sides, warmup=2, steps=6)
    for one in found:
        assert one.numbers == [3, 4, 6, 7]
        assert all(0.02 < cpu_s < 10 for cpu_s in one.cpu_s)
        assert len(one.step_s) == len(one.cpu_s) == 4
        assert 0.05 < one.first_step_s < one.whole_s - sum(one.step_s)
        assert 0.02 < one.first_step_cpu_s < 10
    finished = sorted(
        (float(line.split()[1]), name) for name in "ab" for line in (tmp_path / f"{name}.steps").read_text().splitlines()
    )  # fmt: skip
    assert [name for _, name in finished] == list("aabb" + "aaabbb" * 2)


def test_steps_that_do_not_fill_turns_are_an_error(turns, tmp_path):
    with pytest.raises(ValueError, match="4 steps cannot be taken in turns of 3"):
        turns.run_in_turns((side(turns, tmp_path, "a", "5"), side(turns, tmp_path, "b", "5")), warmup=1, steps=4)


def test_a_start_without_a_step_is_an_error(turns, tmp_path):
    with pytest.raises(ValueError, match="0 steps of warm-up"):
        turns.run_in_turns((side(turns, tmp_path, "a", "5"), side(turns, tmp_path, "b", "5")), warmup=0, steps=3)


def test_a_side_that_fails_is_an_error_with_its_output_and_the_other_one_is_ended(turns, tmp_path):
    sides = (side(turns, tmp_path, "a", "4"), side(turns, tmp_path, "b", "2", "out of luck"))
    with pytest.raises(RuntimeError, match=r"b: exit code 1\nout of luck"):
        turns.run_in_turns(sides, warmup=1, steps=3)
    assert (tmp_path / "a.steps").read_text().count("\n") <= 4


def test_steps_of_another_run_are_not_taken_for_its_own(turns, tmp_path):
    (tmp_path / "a.steps").write_text("0 1\n")
    sides = (side(turns, tmp_path, "a", "4"), side(turns, tmp_path, "b", "4"))
    with pytest.raises(RuntimeError, match="a has 1 steps from an earlier run before it starts"):
        turns.run_in_turns(sides, warmup=1, steps=3)


def test_a_side_that_ends_early_is_an_error(turns, tmp_path):
    sides = (side(turns, tmp_path, "a", "4"), side(turns, tmp_path, "b", "2"))
    with pytest.raises(RuntimeError, match="b ended after 2 steps instead of 3"):
        turns.run_in_turns(sides, warmup=1, steps=3)
