"""The command line of a benchmark that is measured in parts: `python -m benchmarks.ROOM [PART ...] [--quick]`.

Each part's claims are written to `benchmarks/results/THEME.json` as soon as it is done, and the others there are kept, so that
parts can be measured one at a time. `--quick` measures little, writes to a temporary folder and leaves the results as they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from benchmarks.measure.claims import Claim, ImpossibleError
from benchmarks.measure.record import RESULTS, write_results

B = TypeVar("B")
Parts = Mapping[str, Callable[[B], list[Claim]]]


def part_parser(description: str | None, parts: Mapping[str, object], *, quick: str) -> argparse.ArgumentParser:
    """A parser of names of parts and `--quick`, to which a benchmark adds options of its own.

    Args:
        description: Shown above the options: the benchmark's docstring.
        parts: What there is to measure, by name.
        quick: What `--quick` measures.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(parts)}; default: all")
    parser.add_argument("--quick", action="store_true", help=f"{quick}; results go to a temporary folder")
    return parser


def parsed(parser: argparse.ArgumentParser, parts: Mapping[str, object]) -> argparse.Namespace:
    """The options, with `parts` those to measure: all of them where none is named."""
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in parts]:
        parser.error(f"unknown part {', '.join(unknown)}; known: {', '.join(parts)}")
    options.parts = options.parts or list(parts)
    return options


def measure_parts(theme: str, parts: Parts[B], given: B, options: argparse.Namespace) -> None:
    """Measure the parts, and write the claims of each; exits with what is wrong if a value is impossible.

    Args:
        theme: Name of the results file.
        parts: What measures them, by name; a part without claims has nothing to say on this machine.
        given: What every part is called with.
        options: As of `parsed`.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{theme}-")) if options.quick else RESULTS
    for name in options.parts:
        try:
            if found := parts[name](given):
                write_results(theme, found, folder=folder, merge=True)
        except ImpossibleError as error:
            sys.exit(str(error))
