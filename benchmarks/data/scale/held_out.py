"""Held-out text of a very large corpus in sixteen pack processes: memory of the index, which they share.

The index is made, not read from text: as many random 13-grams as 2 % of 41 GB of text have, which is what would be held out
without `prepare.held_out.max_documents`; and as many as that limit leaves of the same corpus. Processes load it as tasks do and
look up documents; counted are the pages of the index (once) and what each process has for itself.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.claims import POSITIVE, Claim
from cpt_ray.config.sections.prepare import HeldOutConfig
from cpt_ray.data.split import ContainmentIndex, _mark_slots

PROCESSES = 16
TEXT_BYTES = 41e9
WORD_BYTES = 8.0
"""Of English text in UTF-8, its space and punctuation included, as in the issue's 4.1 GB at 40 bytes an n-gram."""
DOCUMENT_WORDS = 500
_CHUNK = 1 << 22
_DOCUMENTS = 50


def write_index(folder: Path, grams: int, seed: int = 0) -> int:
    """Write the index of random n-grams, as `ContainmentIndex.save` would; its size in bytes.

    Hashes are drawn in ascending order range by range, so that no process sorts or holds all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    documents = max(1, grams // DOCUMENT_WORDS)
    draw = np.random.default_rng(seed)
    hashes = np.lib.format.open_memmap(folder / "hashes.npy", mode="w+", dtype=np.uint64, shape=(grams,))
    owners = np.lib.format.open_memmap(folder / "owners.npy", mode="w+", dtype=np.uint32, shape=(grams,))
    for start in range(0, grams, _CHUNK):
        end = min(start + _CHUNK, grams)
        low, high = (int(place / grams * (2**64 - 1)) for place in (start, end))
        hashes[start:end] = np.sort(draw.integers(low, high, size=end - start, dtype=np.uint64))
        owners[start:end] = draw.integers(documents, size=end - start, dtype=np.uint32)
    hashes.flush()
    owners.flush()
    np.save(folder / "totals.npy", np.full(documents, DOCUMENT_WORDS, dtype=np.uint32))
    np.save(folder / "lengths.npy", np.array([13], dtype=np.int64))
    np.save(folder / "slots.npy", _mark_slots(hashes))
    return sum(path.stat().st_size for path in folder.iterdir())


def pages() -> dict[str, int]:
    """Bytes that this process has for itself, and its share of the mapped index."""
    private = shared = 0
    of_index = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if "-" in name.split(" ")[0] and "kB" not in line:
            of_index = line.rstrip().endswith(".npy")
        elif name == "Pss" and of_index:
            shared += int(rest.split()[0]) << 10
        elif name in ("Private_Clean", "Private_Dirty") and not of_index:
            private += int(rest.split()[0]) << 10
    return {"private": private, "index": shared}


def look_up(folder: str, number: int, barrier: Any, results: Any) -> None:
    """What a pack process does with the index: load it, and look for documents in it."""
    draw = np.random.default_rng(1000 + number)
    before = pages()["private"]
    index = ContainmentIndex.load(Path(folder))
    found = 0
    for _ in range(_DOCUMENTS):
        found += index.contains(draw.integers(2**64, size=20 * DOCUMENT_WORDS, dtype=np.uint64), 0.5)
        # A document that is held out: its words cannot be made from hashes of n-grams, so the search alone is repeated.
        some = index.hashes[np.sort(draw.integers(len(index.hashes), size=DOCUMENT_WORDS))]
        found += len(index._owners(index._perhaps(some))) >= DOCUMENT_WORDS
    barrier.wait()
    results.put({**pages(), "before": before, "found": found})
    barrier.wait()


def simulate(folder: Path, grams: int) -> dict[str, float]:
    """Memory of `PROCESSES` processes that have looked up documents in an index of so many n-grams."""
    size = write_index(folder, grams)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(PROCESSES), context.Queue()
    workers = [context.Process(target=look_up, args=(str(folder), n, barrier, results)) for n in range(PROCESSES)]
    for worker in workers:
        worker.start()
    seen = [results.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    if any(one["found"] < _DOCUMENTS for one in seen):
        raise RuntimeError("held-out n-grams were not found")
    own = [one["private"] - one["before"] for one in seen]
    return {
        "ngrams": grams,
        "index_bytes": size,
        "index_resident_bytes": sum(one["index"] for one in seen),
        "private_bytes_per_process": max(own),
        "node_bytes": sum(one["index"] for one in seen) + sum(own),
    }


def measure(share: float) -> list[Claim]:
    """Without and with the limit on held-out documents; `share` of the text is simulated."""
    config = HeldOutConfig()
    words = int(TEXT_BYTES * share * config.share / WORD_BYTES)
    limited = min(words, config.max_documents * DOCUMENT_WORDS)
    found = {}
    for name, grams in {"without the limit": words, "with the limit": limited}.items():
        with tempfile.TemporaryDirectory() as folder:
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks.data.scale.held_out", folder, str(grams)],
                capture_output=True,
                text=True,
                check=False,
            )
        if child.returncode:
            raise RuntimeError(child.stderr[-2000:])
        found[name] = json.loads(child.stdout.splitlines()[-1])
    what = f"held-out n-grams of {TEXT_BYTES * share / 1e9:.3g} GB of text in {PROCESSES} pack processes of a node"
    return [
        Claim(
            id="scale.held_out_node_gb",
            possible=POSITIVE,
            claim=f"{what}, {words:,} of them (no limit on documents): the index and what processes have for themselves",
            value=found["without the limit"]["node_bytes"] / 1e9,
            unit="GB",
            target="<= 4.1",
            compared_with="4.1 GB in each of them when every process held its own",
            raw=found,
        ),
        Claim(
            id="scale.held_out_limited_mb",
            possible=POSITIVE,
            claim=f"the same with prepare.held_out.max_documents at its default, {config.max_documents} documents of "
            f"{DOCUMENT_WORDS} words",
            value=found["with the limit"]["node_bytes"] / 1e6,
            unit="MB",
            target="<= 300",
        ),
    ]


if __name__ == "__main__":
    print(json.dumps({**simulate(Path(sys.argv[1]), int(sys.argv[2])), "load": os.getloadavg()[0]}))
