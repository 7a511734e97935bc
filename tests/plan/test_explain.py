"""The arithmetic as lines: what is said adds up to what is planned."""

from __future__ import annotations

import re

from cpt_ray.plan.explain import explain_memory, explain_time
from tests.plan.test_advice import ask
from tests.plan.test_hours import hours


def numbers(lines: list[str]) -> dict[str, int]:
    found = (re.match(r"  (\w+) +([\d,]+) ", f"{line} ") for line in lines)
    return {match[1]: int(match[2].replace(",", "")) for match in found if match}


def test_the_parts_add_up_to_the_peak():
    asked = ask(500)
    lines = list(explain_memory(asked, asked.memory()))
    said = numbers(lines)
    assert said["peak"] == sum(size for name, size in said.items() if name != "peak") == asked.memory().peak_bytes
    assert "6,738,415,616 x 2" in lines[1]
    assert lines[2].endswith("6,738,415,616 x 4")
    assert "(master weight + moments of 8) / 8 workers" in lines[3]


def test_recomputation_and_what_a_trial_found_are_said():
    asked = ask(500, gradient_checkpointing=True)
    asked = asked._replace(work=asked.work._replace(measured_bytes=12_345))
    lines = list(explain_memory(asked, asked.memory()))
    assert any("32 layers x 8,192 + one layer of" in line for line in lines)
    assert any("12,345 : a trial's peak beyond these parts" in line for line in lines)


def test_a_step_is_said_with_its_passes():
    lines = list(explain_time(hours()))
    assert any("16.5 s = 8 passes + update, 16 rows on 1 workers" in line for line in lines)
    assert any("8.000e+11 FLOP/s x 0.4" in line for line in lines)
    assert any("at measured" in line for line in explain_time(hours(measured=True)))
