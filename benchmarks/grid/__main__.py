"""Measure domain filters, grids, their reports and their mirror in MLflow; writes `benchmarks/results/grid.json`.

Run by `make bench-grid`, or for selected parts: `python -m benchmarks.grid plan`. `--quick` takes little text and writes no
results file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks.grid import cells, mirror, page
from benchmarks.grid import filter as domain_filter
from benchmarks.measure.claims import Claim, ImpossibleError
from benchmarks.measure.environments import CACHE
from benchmarks.measure.record import write_results


def measure_filter(*, quick: bool) -> list[Claim]:
    """Scoring with the default filter, against fastText's predict."""
    return domain_filter.measure(megabytes=32, rounds=1) if quick else domain_filter.measure(megabytes=256)


def measure_plan(*, quick: bool) -> list[Claim]:
    """A grid of 1,000 cells, planned."""
    return cells.measure_plan(rounds=1 if quick else 3)


def measure_scaling(*, quick: bool) -> list[Claim]:
    """The local studies, from nothing; there is no quick form."""
    return [] if quick else cells.measure_scaling()


def measure_page(*, quick: bool) -> list[Claim]:
    """The report of a grid of 1,000 cells."""
    return page.measure(100) if quick else page.measure()


def measure_mirror(*, quick: bool) -> list[Claim]:
    """A run of 100,000 metric points, mirrored into MLflow over http."""
    return mirror.measure((200, 1_000)) if quick else mirror.measure()


PARTS: dict[str, Callable[..., list[Claim]]] = {
    "filter": measure_filter,
    "plan": measure_plan,
    "page": measure_page,
    "mirror": measure_mirror,
    "scaling": measure_scaling,
}


def main() -> None:
    """Run the requested parts, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="less text; no results file")
    options = parser.parse_args()
    for part in options.parts or PARTS:
        found = PARTS[part](quick=options.quick)
        if options.quick:
            write_results("grid", found, folder=CACHE / "grid-quick", merge=True)
        else:
            write_results("grid", found, merge=True)


if __name__ == "__main__":
    try:
        main()
    except ImpossibleError as error:
        sys.exit(str(error))
