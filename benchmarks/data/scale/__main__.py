"""What grows with the text and how: `python -m benchmarks.data.scale [PART ...] [--quick]`, run by `make bench-scale`.

Each part adds its claims to `benchmarks/results/scale.json`:

    metadata   what the driver does with 10^5 packed units and 10^4 units of six stages; a command that finds all of it made
    opens      opens of files per unit
    held_out   held-out n-grams of 41 GB of text in sixteen processes
    growth     CPU seconds and memory a byte at ten times the text
    requests   requests a minute to a bucket while a run trains
    steps      memory and time of following a run of 10^5 steps
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.data.scale import growth, held_out, metadata, opens, requests, steps
from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.parts import Parts, measure_parts, parsed, part_parser


def measure_metadata(quick: bool) -> list[Claim]:
    """The driver, and a command that finds everything made, at two sizes each, so that growth shows."""
    shards, units = (2_000, 200) if quick else (100_000, 10_000)
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as name:
        folder = Path(name)
        packed = [metadata.measure("pack", folder / str(size), size) for size in (shards // 10, shards)]
        again = [metadata.measure("noop", folder / str(size), size) for size in (shards // 10, shards)]
        staged = metadata.measure("stages", folder / "stages", units)
    whole = {"pack": packed, "noop": again, "stages": staged}
    return [
        Claim(
            id="scale.driver_bytes_per_unit",
            possible=POSITIVE,
            claim=f"memory of the driver per packed unit, {shards:,} of them: reports, manifest, list of "
            f"{packed[1]['files']:,} files, commit",
            value=packed[1]["bytes_per_unit"],
            unit="bytes",
            target="<= 3000",
            raw=whole,
        ),
        Claim(
            id="scale.driver_cpu_s_1e5_shards",
            possible=POSITIVE,
            claim="CPU seconds of the driver for the same, without those of writing the reports",
            value=packed[1]["cpu_s"],
            unit="CPU s",
            target="<= 10",
        ),
        Claim(
            id="scale.driver_mb_1e4_units",
            possible=POSITIVE,
            claim=f"memory of the driver for {units:,} units in six stages through a pool, all of their reports kept",
            value=staged["peak_mib"] * 2**20 / 1e6,
            unit="MB",
            target="<= 300",
        ),
        Claim(
            id="scale.driver_cpu_s_1e4_units",
            possible=POSITIVE,
            claim="CPU seconds of the driver's thread for the same; those of the pool's own threads are with the raw figures",
            value=staged["cpu_s"],
            unit="CPU s",
            target="<= 10",
        ),
        Claim(
            id="scale.noop_seconds_1e5_shards",
            possible=POSITIVE,
            claim=f"a command finds {shards:,} shards made: looks at {packed[1]['files']:,} files, loads the manifest, opens a "
            "reader",
            value=again[1]["seconds"],
            unit="s",
            target="<= 10",
        ),
    ]


def measure_opens(quick: bool) -> list[Claim]:
    """Opens per unit."""
    return [opens.measure(2 if quick else 8, 100_000)]


def measure_held_out(quick: bool) -> list[Claim]:
    """The index of held-out text."""
    return held_out.measure(0.01 if quick else 1.0)


def measure_growth(quick: bool) -> list[Claim]:
    """Ten times the text."""
    return growth.measure((2, 6) if quick else (60, 600), 2 if quick else 5)


def measure_requests(quick: bool) -> list[Claim]:
    """What a run in a bucket asks of it."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        return [requests.measure(Path(folder), 10 if quick else 60, 400_000 if quick else 3_000_000)]


def measure_steps(quick: bool) -> list[Claim]:
    """What following a run costs its driver."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        return steps.measure(Path(folder), 1_000 if quick else 100_000)


PARTS: Parts[bool] = {
    "metadata": measure_metadata,
    "opens": measure_opens,
    "held_out": measure_held_out,
    "growth": measure_growth,
    "requests": measure_requests,
    "steps": measure_steps,
}


def main() -> None:
    """Measure the parts and write their claims."""
    options = parsed(part_parser(__doc__, PARTS, quick="less of everything"), PARTS)
    measure_parts("scale", PARTS, options.quick, options)


if __name__ == "__main__":
    main()
