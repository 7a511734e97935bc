"""Simulate studies and write `benchmarks/results/stats.json`: `python -m benchmarks.stats [PART ...] [--quick]`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.measure.record import RESULTS, write_results
from benchmarks.stats import differences, fits, forecasts

PARTS = {
    "differences": (differences.measure, 10_000, 400),
    "fits": (fits.measure, 500, 20),
    "forecasts": (forecasts.measure, 500, 20),
}
"""By name: what measures it, and the number of studies per cell, in full and with `--quick`."""


def main() -> None:
    """Measure the parts asked for, each written as soon as it is done."""
    parser = argparse.ArgumentParser(description="how often intervals are wrong, in simulated studies")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--draws", type=int, help="studies per cell")
    parser.add_argument("--quick", action="store_true", help="few studies per cell; results go to a temporary folder")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; known: {', '.join(PARTS)}")
    folder = Path(tempfile.mkdtemp(prefix="bench-stats-")) if arguments.quick else RESULTS
    for name in arguments.parts or PARTS:
        measure, full, quick = PARTS[name]
        write_results("stats", measure(arguments.draws or (quick if arguments.quick else full)), folder=folder, merge=True)


if __name__ == "__main__":
    main()
