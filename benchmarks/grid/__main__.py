"""Measure domain filters, grids, their reports and their mirror in MLflow; writes `benchmarks/results/grid.json`.

Run by `make bench-grid`, or for selected parts: `python -m benchmarks.grid plan`. `--quick` takes little text and writes no
results file.
"""

from __future__ import annotations

from benchmarks.grid import cells, mirror, page
from benchmarks.grid import filter as domain_filter
from benchmarks.measure.claims import Claim
from benchmarks.measure.parts import Parts, measure_parts, parsed, part_parser


def measure_filter(quick: bool) -> list[Claim]:
    """Scoring with the default filter, against fastText's predict."""
    return domain_filter.measure(megabytes=32, rounds=1) if quick else domain_filter.measure(megabytes=256)


def measure_plan(quick: bool) -> list[Claim]:
    """A grid of 1,000 cells, planned."""
    return cells.measure_plan(rounds=1 if quick else 3)


def measure_scaling(quick: bool) -> list[Claim]:
    """The local studies, from nothing; there is no quick form."""
    return [] if quick else cells.measure_scaling()


def measure_page(quick: bool) -> list[Claim]:
    """The report of a grid of 1,000 cells."""
    return page.measure(100) if quick else page.measure()


def measure_mirror(quick: bool) -> list[Claim]:
    """A run of 100,000 metric points, mirrored into MLflow over http."""
    return mirror.measure((200, 1_000)) if quick else mirror.measure()


PARTS: Parts[bool] = {
    "filter": measure_filter,
    "plan": measure_plan,
    "page": measure_page,
    "mirror": measure_mirror,
    "scaling": measure_scaling,
}


def main() -> None:
    """Run the requested parts, or all."""
    options = parsed(part_parser(__doc__, PARTS, quick="less text"), PARTS)
    measure_parts("grid", PARTS, options.quick, options)


if __name__ == "__main__":
    main()
