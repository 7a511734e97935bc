"""How often intervals are wrong, in simulated studies: `python -m benchmarks.stats [PART ...] [--quick]`.

Run by `make bench-stats`; writes `benchmarks/results/stats.json`.
"""

from __future__ import annotations

from argparse import Namespace

from benchmarks.measure.claims import Claim
from benchmarks.measure.parts import Parts, measure_parts, parsed, part_parser
from benchmarks.stats import differences, fits, forecasts


def measure_differences(options: Namespace) -> list[Claim]:
    """Level and coverage of intervals of differences."""
    return differences.measure(options.draws or (400 if options.quick else 10_000))


def measure_fits(options: Namespace) -> list[Claim]:
    """Coverage of the intervals of fits."""
    return fits.measure(options.draws or (20 if options.quick else 500))


def measure_forecasts(options: Namespace) -> list[Claim]:
    """Coverage of the intervals of forecasts."""
    return forecasts.measure(options.draws or (20 if options.quick else 500))


PARTS: Parts[Namespace] = {"differences": measure_differences, "fits": measure_fits, "forecasts": measure_forecasts}


def main() -> None:
    """Measure the requested parts, or all."""
    parser = part_parser(__doc__, PARTS, quick="few studies per cell")
    parser.add_argument("--draws", type=int, help="studies per cell")
    options = parsed(parser, PARTS)
    measure_parts("stats", PARTS, options, options)


if __name__ == "__main__":
    main()
