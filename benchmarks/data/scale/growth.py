"""CPU seconds and memory of preparation at ten times the text: from raw files to shards, in two processes of this machine.

`python -m benchmarks.data.scale.growth FOLDER MODEL FILE...` prepares one corpus. The text of both sizes is of one kind: every
document is made of a real one with four tenths of its words replaced, so that nearly nothing is a near-duplicate, and nearly no
13-gram stands in two documents.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.bench import Bench, text_bytes
from benchmarks.data.corpora import synthetic
from benchmarks.data.ours import PREPARE, model_tokenizer, source_of
from benchmarks.data.watch import watch_together
from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.environments import CACHE
from cpt_ray.data.rows.shards import save_manifest
from cpt_ray.data.run.pipeline import DataJob, draw_held_out, pack_shards, prepare_documents
from cpt_ray.edges.process import process_pool
from cpt_ray.records import Made

REPLACED = 0.4
ONE_FILE = PREPARE.model_copy(update={"unit_bytes": 8_000_000})
"""A unit is a file of 16 MB of text at both sizes: memory is that of a unit, and one of the default size holds 60 MB."""
WORKERS = 2
_LITTLE = 1
"""Megabytes of the run whose cost is that of starting."""


def corpus(megabytes: int) -> list[Path]:
    """The files of a corpus of one kind of text, made on first use."""
    texts = synthetic.unique_texts(megabytes * 1_000_000, replaced_share=REPLACED, first=1)
    return synthetic.write_corpus(CACHE / f"alike-{megabytes}", megabytes, texts=texts)


def prepare(folder: Path, model: Path, files: Sequence[Path]) -> None:
    """From raw files to shards."""
    sources = [source_of(list(files))]
    with process_pool(WORKERS) as pool:

        def job(name: str) -> DataJob:
            return DataJob(sources, ONE_FILE, folder / name, num_workers=WORKERS, pool=pool)

        documents = Made(folder / "documents", prepare_documents(job("documents")))
        held_out = Made(folder / "held_out", draw_held_out(job("held_out"), documents))
        manifest = pack_shards(job("shards"), documents, held_out, model_tokenizer(model), None)
    save_manifest(folder / "shards" / "manifest.json", manifest)


def measure(sizes: tuple[int, int], again: int) -> list[Claim]:
    """The larger once, the smaller and a bare start `again` times meanwhile, in turns of two seconds."""
    bench = Bench(quick=True)
    model, folder = bench.model(), CACHE / "growth"
    shutil.rmtree(folder, ignore_errors=True)

    def command(size: int, number: int) -> list[str]:
        out = folder / f"{size}-{number}"
        return [sys.executable, "-m", "benchmarks.data.scale.growth", str(out), str(model), *map(str, corpus(size))]

    runs = {_LITTLE: again, sizes[0]: again, sizes[1]: 1}
    commands = {
        f"{size} MB": ["bash", "-c", " && ".join(shlex.join(command(size, number)) for number in range(count))]
        for size, count in runs.items()
    }
    used = watch_together(commands)
    shutil.rmtree(folder, ignore_errors=True)
    raw: dict[str, Any] = {name: bench.say(name, usage) for name, usage in used.items()}
    little, small, large = (used[f"{size} MB"].cpu_s / count for size, count in runs.items())
    amounts = [text_bytes(corpus(size)) for size in (_LITTLE, *sizes)]
    spent = [(cost - little) / (amount - amounts[0]) for cost, amount in zip((small, large), amounts[1:], strict=True)]
    peaks = [used[f"{size} MB"].peak_bytes for size in sizes]
    raw |= {"text_bytes": amounts, "runs": runs, "cpu_s_per_mb_beyond_start": [one * 1e6 for one in spent]}
    what = f"{amounts[1] / 1e6:.0f} to {amounts[2] / 1e6:.0f} MB of text of one kind, from raw files to shards in two processes"
    return [
        Claim(
            id="scale.cpu_growth",
            possible=POSITIVE,
            claim=f"{what}: CPU seconds per byte, the larger over the smaller, the start apart",
            value=spent[1] / spent[0],
            unit="times",
            target="<= 1.1",
            raw=raw,
        ),
        Claim(
            id="scale.memory_growth",
            possible=POSITIVE,
            claim=f"{what}: growth of the peak private memory of the largest process",
            value=peaks[1] / peaks[0],
            unit="times",
            target="<= 1.2",
            raw={"peak_bytes": peaks},
        ),
        Claim(
            id="scale.prepare_speed",
            possible=POSITIVE,
            claim=f"{what}: text of the larger per core-second",
            value=1 / (spent[1] * 1e6),
            unit="MB per core-second",
        ),
    ]


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
