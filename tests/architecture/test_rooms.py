"""Rooms stay small, and tests mirror the code."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_ENTRIES = 12
LEAST_SHARE = 0.9
"""Share of modules with a test of the same name."""

ROOMS = sorted(
    {path.parent.relative_to(ROOT) for top in ("cpt_ray", "benchmarks") for path in (ROOT / top).rglob("*.py")}
    - {Path("cpt_ray")}  # holds only the rooms and errors.py
)


def modules() -> list[Path]:
    return [path.relative_to(ROOT / "cpt_ray") for path in (ROOT / "cpt_ray").rglob("*.py") if path.name != "__init__.py"]


def untested() -> list[Path]:
    """Modules without a test of the same name."""
    return [path for path in modules() if not (ROOT / "tests" / path.parent / f"test_{path.name}").exists()]


@pytest.mark.parametrize("room", ROOMS, ids=str)
def test_a_room_has_few_entries(room):
    entries = [path.name for path in (ROOT / room).iterdir() if path.name not in ("__init__.py", "__pycache__")]
    assert len(entries) <= MOST_ENTRIES, f"{room} has {len(entries)}: group related ones into a room"


def test_every_room_says_what_it_is_for():
    silent = [str(room) for room in ROOMS if not (ROOT / room / "__init__.py").read_text(encoding="utf-8").startswith('"""')]
    assert silent == []


def test_most_modules_have_a_test_of_their_name(record_property):
    without = untested()
    share = 1 - len(without) / len(modules())
    record_property("modules with a test of their name", f"{100 * share:.0f} % of {len(modules())}")
    assert share >= LEAST_SHARE, f"without a test: {', '.join(map(str, without))}"
