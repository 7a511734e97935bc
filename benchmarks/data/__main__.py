"""The data pipeline against its peers and against itself without Ray.

Run by `make bench-data` as `python -m benchmarks.data [PART ...] [--quick]`; `QUICK=1` measures less text and writes no results
file. Each part adds its claims to `benchmarks/results/data.json`, so parts can be run one at a time:

    tokenize   tokenize + pack + write from Parquet, versus datasets.map + group_texts, datatrove and litdata
    ray        the same tasks on 0.5 GB, with and without Ray
    workers    one worker versus two
    packing    packing alone, tokens moved and position ids written, versus trl
    neardup    near-duplicates, versus datasketch (`dedup.py`)
    clean      cleaning rules, versus datatrove's (`clean.py`)

CPU seconds cover every process that a command starts, including Ray's daemons. Compared commands alternate in slices of a few
seconds (`watch.py`). Start-up cost (imports, Ray) is measured with almost no text and subtracted from every side; both figures
are in `raw`. Peers run in a separate environment under the user's cache folder, on the same files, cores, tokenizer and
tokenizer version.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.data import clean as data_clean
from benchmarks.data import dedup as data_dedup
from benchmarks.data.bench import HERE, ROW_TOKENS, WORKERS, Bench, ours, peers_python, text_bytes
from benchmarks.data.watch import watch_together
from benchmarks.measure.claims import POSITIVE, SHARE, Claim, Figure, beyond_start
from benchmarks.measure.parts import Parts, measure_parts, parsed, part_parser

ENGINE = "SmolLM2's tokenizer, Hugging Face's engine, two processes"


def measure_tokenize(bench: Bench) -> list[Claim]:
    """Every side on a small corpus and on the full one."""
    little = 1
    for size in (little, bench.small):
        bench.units(size)
    peers_python()

    def sides(size: int) -> dict[str, list[str]]:
        peers = ("datasets", "datatrove", "litdata")
        return {"ours": _pack(bench, size, "ours"), **{name: _peer(bench, name, size) for name in peers}}

    start, whole = watch_together(sides(little)), watch_together(sides(bench.small))
    raw: dict[str, Any] = {
        name: {"start": bench.say(f"{name}, start", start[name]), "all": bench.say(name, whole[name])} for name in whole
    }
    megabytes = (text_bytes(bench.corpus(bench.small)) - text_bytes(bench.corpus(little))) / 1e6
    spent = {name: beyond_start(runs["all"]["cpu_s"], runs["start"]["cpu_s"]) for name, runs in raw.items()}
    best = min((name for name in spent if name != "ours"), key=lambda name: spent[name].value)
    gain = spent[best] / spent["ours"]
    raw["cpu_s_beyond_start"] = {name: figure.value for name, figure in spent.items()}
    claims = [
        Claim(
            id="data.tokenize_pack_ratio",
            possible=POSITIVE,
            claim=f"tokenize + pack + write, Parquet to shards, text per core-second, start-up apart ({ENGINE})",
            value=gain.value,
            spread=gain.spread,
            work=(round(megabytes), "MB"),
            unit="times",
            target=">= 1.15",
            compared_with=f"{best}, the best of datasets.map + group_texts, datatrove and litdata",
            raw=raw,
        )
    ]
    for name, figure in spent.items():
        speed = Figure(megabytes) / figure
        claims.append(
            Claim(
                id=f"data.tokenize_pack_speed_{name}",
                possible=POSITIVE,
                claim=f"the same in figures: {name}",
                value=speed.value,
                spread=speed.spread,
                work=(round(megabytes), "MB"),
                unit="MB per core-second",
            )
        )
    return claims


def _pack(bench: Bench, size: int, out: str, *, workers: int = WORKERS) -> list[str]:
    return ours("pack", bench.units(size), bench.model(), bench.out(out), workers)


def _peer(bench: Bench, name: str, size: int) -> list[str]:
    arguments = [bench.corpus(size)[0].parent, bench.model(), bench.out(name), WORKERS]
    return [str(peers_python()), str(HERE / "peers.py"), name, *map(str, arguments)]


def measure_ray(bench: Bench) -> list[Claim]:
    """On Ray, and without it in two processes with half of the units each."""

    def sides(size: int) -> dict[str, list[str]]:
        out = bench.out("plain")
        plain = [ours("plain", bench.units(size), bench.model(), out / str(n), f"{n}/{WORKERS}") for n in range(WORKERS)]
        return {"ray": _pack(bench, size, "ray"), "plain": ["bash", "-c", " & ".join(map(shlex.join, plain)) + " & wait"]}

    start, whole = watch_together(sides(1)), watch_together(sides(bench.large))
    raw = {name: {"start": bench.say(f"{name}, start", start[name]), "all": bench.say(name, whole[name])} for name in whole}
    cpu, wall = (
        {name: beyond_start(one["all"][key], one["start"][key]) for name, one in raw.items()} for key in ("cpu_s", "wall_s")
    )
    share, wall_share = cpu["plain"] / cpu["ray"], wall["plain"] / wall["ray"]
    work = (bench.large, "MB")
    return [
        Claim(
            id="data.ray_efficiency",
            possible=(0.0, 1.3),
            claim=f"the same on {bench.large} MB on Ray Data, CPU seconds, start-up apart: with 1 MB of text "
            f"{start['ray'].cpu_s:.0f} CPU s on Ray, {start['plain'].cpu_s:.0f} without",
            value=share.value,
            spread=share.spread,
            work=work,
            unit="share",
            target=">= 0.85",
            compared_with="the same tasks in two processes without Ray",
            raw=raw,
        ),
        Claim(
            id="data.ray_wall_efficiency",
            possible=(0.0, 2.0),
            claim="the same in wall time, start-up apart",
            value=wall_share.value,
            spread=wall_share.spread,
            work=work,
            unit="share",
            compared_with="the same tasks in two processes without Ray",
        ),
    ]


def measure_workers(bench: Bench) -> list[Claim]:
    """One worker versus two, in wall time beyond Ray's start-up."""

    def sides(size: int) -> dict[str, list[str]]:
        return {f"workers {count}": _pack(bench, size, str(count), workers=count) for count in (1, 2)}

    start, whole = watch_together(sides(1)), watch_together(sides(bench.large))
    raw = {name: {"start": bench.say(f"{name}, start", start[name]), "all": bench.say(name, whole[name])} for name in whole}
    one, two = (beyond_start(whole[name].wall_s, start[name].wall_s) for name in whole)
    gain = one / two
    control = _two_processes_at_once()
    return [
        Claim(
            id="data.two_worker_speedup",
            possible=(0.0, 2.5),
            claim="tokenize + pack + write with two workers over one, wall time beyond Ray's start",
            value=gain.value,
            spread=gain.spread,
            work=(bench.large, "MB"),
            unit="times",
            target=">= 1.8",
            compared_with=f"one worker; two unrelated processes on these two cores do {control:.2f} times the work of one",
            raw={**raw, "two_processes": control},
        )
    ]


def _two_processes_at_once() -> float:
    """Throughput of two concurrent copies of a plain loop relative to one: the ceiling of these cores."""
    loop = shlex.join([sys.executable, "-c", "x = 0\nfor i in range(60_000_000): x += i * i"])
    found = watch_together({"one": ["bash", "-c", loop], "two": ["bash", "-c", f"{loop} & {loop} & wait"]})
    return 2 * found["one"].wall_s / found["two"].wall_s


def measure_packing(bench: Bench) -> list[Claim]:
    """Packing alone, on lengths sampled from the corpus."""
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    from cpt_ray.data.rows.pack import pack

    engine = Tokenizer.from_file(str(bench.model() / "tokenizer.json"))
    texts = pq.read_table(bench.corpus(2)[0])["text"].to_pylist()
    seen = np.array([len(encoding.ids) + 1 for encoding in engine.encode_batch_fast(texts)])
    draw = np.random.default_rng(0)
    sizes = draw.choice(seen, 5_000 if bench.quick else 80_000) + draw.integers(0, 200, 5_000 if bench.quick else 80_000)
    np.save(bench.folder / "lengths.npy", sizes)
    command = [str(peers_python()), str(HERE / "peers.py"), "trl", str(bench.folder / "lengths.npy"), str(ROW_TOKENS)]
    mine, theirs = [], []
    for _ in range(3):
        mine.append(_pack_ours(sizes))
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        theirs.append(json.loads(done.stdout.splitlines()[-1]))
    spent, other = (statistics.median(one["cpu_s"] for one in runs) for runs in (mine, theirs))
    unit = pack(sizes[: int(np.searchsorted(np.cumsum(sizes), 14_500_000))], ROW_TOKENS, "best_fit")
    slots = unit.num_rows * ROW_TOKENS
    raw = {"ours": mine, "trl": theirs, "tokens": int(sizes.sum()), "documents": len(sizes)}
    return [
        Claim(
            id="data.pack_ratio",
            possible=POSITIVE,
            claim="packing: tokens per CPU second, tokens moved and position ids written",
            value=other / spent,
            unit="times",
            target=">= 3.0",
            compared_with="trl 1.16.0, pack_dataset with strategy bfd_split",
            raw=raw,
        ),
        Claim(
            id="data.pack_speed",
            possible=POSITIVE,
            claim="the same in figures",
            value=sizes.sum() / spent / 1e6,
            unit="million tokens per CPU second",
        ),
        Claim(
            id="data.pack_waste_share",
            possible=SHARE,
            claim=f"packing: padding over slots of one full unit of 64 MB, rows of {ROW_TOKENS} tokens",
            value=1 - float(unit.tokens.sum()) / slots,
            unit="share",
            target="<= 0.0005",
            raw={"rows": unit.num_rows, "tokens": int(unit.tokens.sum())},
        ),
    ]


def _pack_ours(sizes: np.ndarray) -> dict[str, float]:
    from cpt_ray.data.rows.pack import pack, permute
    from cpt_ray.data.rows.shards import lay_out

    flat = np.random.default_rng(0).integers(0, 49000, int(sizes.sum()), dtype=np.uint16)
    starts = np.cumsum(sizes) - sizes
    started = time.process_time()
    pieces = permute(pack(sizes, ROW_TOKENS, "best_fit"), seed=0, source="x", unit="x")
    planned = time.process_time()
    lay_out(pieces, flat, starts, sequence_length=ROW_TOKENS, filler=0)
    moved = time.process_time()
    ends = np.cumsum(pieces.tokens)
    positions = np.arange(ends[-1], dtype=np.int32)
    positions -= np.repeat((ends - pieces.tokens).astype(np.int32), pieces.tokens)
    done = time.process_time()
    return {"cpu_s": done - started, "plan_s": planned - started, "move_s": moved - planned, "rows": pieces.num_rows}


def measure_neardup(bench: Bench) -> list[Claim]:
    """Near-duplicates versus datasketch."""
    return data_dedup.measure(1_000, 200) if bench.quick else data_dedup.measure()


def measure_clean(bench: Bench) -> list[Claim]:
    """Cleaning rules versus datatrove."""
    return data_clean.measure(200) if bench.quick else data_clean.measure()


PARTS: Parts[Bench] = {
    "tokenize": measure_tokenize,
    "ray": measure_ray,
    "workers": measure_workers,
    "packing": measure_packing,
    "neardup": measure_neardup,
    "clean": measure_clean,
}


def main() -> None:
    """Run the requested parts, or all."""
    options = parsed(part_parser(__doc__, PARTS, quick="less text"), PARTS)
    measure_parts("data", PARTS, Bench(quick=options.quick), options)


if __name__ == "__main__":
    main()
