"""What an acceptance list is made of: boxes that give evidence, or refuse."""

import sys
from collections.abc import Callable, Sequence


def check(true: bool, otherwise: str) -> None:
    """Refuse with a reason; asserts vanish under -O.

    Raises:
        AssertionError: If it is not true.
    """
    if not true:
        raise AssertionError(otherwise)


def run_boxes(boxes: Sequence[Callable[[], list[str]]], arguments: Sequence[str]) -> int:
    """Run boxes and print PASS or FAIL with the evidence of each.

    Args:
        boxes: Each returns lines of evidence, or raises; the first line of its docstring is what it proves.
        arguments: Numbers of the boxes to run, from 1; none means all.

    Returns:
        The exit code: 1 if a box failed.
    """
    asked = [int(argument) for argument in arguments] or list(range(1, len(boxes) + 1))
    failed = 0
    for number in asked:
        box = boxes[number - 1]
        try:
            evidence, verdict = box(), "PASS"
        except Exception as error:  # a box that breaks has failed; the others still run
            evidence, verdict = f"{type(error).__name__}: {error}".splitlines(), "FAIL"
            failed += 1
        print(f"{verdict}  box {number}: {(box.__doc__ or '').splitlines()[0]}")
        for line in evidence:
            print(f"        {line}")
        sys.stdout.flush()
    return 1 if failed else 0
