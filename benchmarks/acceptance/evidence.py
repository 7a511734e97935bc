"""Building blocks of an acceptance list: boxes that return evidence or fail."""

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]

Box = Callable[[], Iterable[str]]
"""Yields its evidence line by line, or returns it at once, and raises where what it proves is not so."""
Boxes = Mapping[int, Box] | Sequence[Box]
"""The boxes of an acceptance list."""


def check(true: bool, otherwise: str) -> None:
    """Fail with a reason; plain asserts vanish under -O.

    Raises:
        AssertionError: If the condition is false.
    """
    if not true:
        raise AssertionError(otherwise)


def run_tests(acceptance: str, box: int, *, figures: Iterable[str] = (), tests: Path = REPOSITORY / "tests") -> list[str]:
    """Run the tests of a box and return the figures they recorded.

    Args:
        acceptance: Name of the list, such as `training`.
        box: Its number; its tests carry `@pytest.mark.accept(training=box)`.
        figures: Names that the box's tests must record.
        tests: The tests folder.

    Returns:
        Two lines about the tests, then `name: value` for each figure.

    Raises:
        AssertionError: If no test has the marker, a test failed or was skipped, or a figure is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        marked, written = f"accept({acceptance}={box})", f"--junitxml={report}"
        # In file order, because figures are printed in the order of their tests.
        command = [sys.executable, "-m", "pytest", str(tests), "-p", "no:randomly", "-m", marked, written]
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        check(
            report.exists() and ran.returncode in (0, 1),
            f"{' '.join(command)} exited with code {ran.returncode}: {ran.stdout[-800:]}",
        )
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    bad = [
        f"{case.get('classname')}::{case.get('name')} {found.tag}: {(found.get('message') or '').splitlines()[:1]}"
        for case in cases
        for found in case
        if found.tag in ("failure", "error", "skipped")
    ]
    check(not bad, "; ".join(bad))
    seen = {item.get("name", ""): item.get("value", "") for case in cases for item in case.iterfind("properties/property")}
    missing = sorted(set(figures) - set(seen))
    check(not missing, f"no figure recorded for: {', '.join(missing)}")
    names = sorted({f"{case.get('classname')}::{str(case.get('name')).partition('[')[0]}" for case in cases})
    return [f"{len(cases)} tests passed: {', '.join(names)}", *[f"{name}: {value}" for name, value in seen.items()]]


def check_results(name: str, claims: Iterable[str], *, made_by: str, met: bool = False) -> list[str]:
    """Check that a benchmark's results are committed and complete, and list the missed targets.

    Args:
        name: The NAME in `benchmarks/results/NAME.json`.
        claims: Ids that it must contain.
        made_by: The command that writes the file.
        met: Whether these claims must meet their targets.

    Raises:
        AssertionError: If the file is missing or not committed, or lacks a claim; or one misses a target that must be met.
    """
    path = REPOSITORY / "benchmarks" / "results" / f"{name}.json"
    check(path.exists(), f"{path.relative_to(REPOSITORY)} is missing: run {made_by}")
    listed = subprocess.run(["git", "ls-files", "--error-unmatch", str(path)], cwd=REPOSITORY, capture_output=True)
    check(listed.returncode == 0, f"{path.relative_to(REPOSITORY)} is not committed")
    found = {claim["id"]: claim for claim in json.loads(path.read_text())}
    missing = sorted(set(claims) - set(found))
    check(not missing, f"claims without a result: {', '.join(missing)}")
    short = [f"{one} is {found[one]['value']:.4g}, target {found[one]['target']}" for one in claims if not _is_met(found[one])]
    check(not met or not short, "; ".join(short))
    missed = [claim for claim in found.values() if claim["judgement"] == "missed"]
    return [
        f"{len(found)} claims, {len(missed)} of them miss the target; commit {next(iter(found.values()))['commit']}",
        *[f"missed: {claim['id']}: {claim['value']} {claim['unit']}, target {claim['target']}" for claim in missed],
    ]


def _is_met(claim: Mapping[str, Any]) -> bool:
    return claim["judgement"] in ("met", "no target")


def run_boxes(boxes: Boxes, arguments: Sequence[str]) -> int:
    """Run boxes and print PASS or FAIL with the evidence of each.

    Args:
        boxes: By number, or in order from 1. The first line of a docstring says what the box proves.
        arguments: Numbers of the boxes to run; empty means all.

    Returns:
        The exit code: 1 if a box failed.
    """
    numbered = boxes if isinstance(boxes, Mapping) else dict(enumerate(boxes, start=1))
    asked = [int(argument) for argument in arguments] or list(numbered)
    failed = 0
    for number in asked:
        box = numbered[number]
        verdict, evidence = "PASS", list[str]()
        try:
            for line in box():
                evidence.append(line)  # also what was found before an error
        except Exception as error:  # an error fails the box; the others still run
            evidence += f"{type(error).__name__}: {error}".splitlines()
            verdict = "FAIL"
            failed += 1
        print(f"{verdict}  box {number}: {(box.__doc__ or '').splitlines()[0]}")
        for line in evidence:
            print(f"        {line}")
        sys.stdout.flush()
    return 1 if failed else 0
