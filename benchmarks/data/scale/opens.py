"""How often files are opened per unit of text, with as many partitions of the keys as a large corpus has.

The kernel counts (inotify): every open of a file in the folders of documents, held-out sets and shards, by any process. The
corpus is small, a third of it near-duplicates, and cut into small units; that the keys are spread over as many partitions as
those of a large corpus is set here.
"""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile
import threading
from collections import Counter
from pathlib import Path

from benchmarks.data.bench import Bench
from benchmarks.data.corpora import synthetic
from benchmarks.data.ours import PREPARE, model_tokenizer, source_of
from benchmarks.data.scale.growth import WORKERS
from benchmarks.measure.claims import POSITIVE, Claim
from benchmarks.measure.environments import CACHE
from cpt_ray.data.run import pipeline
from cpt_ray.data.run.pipeline import DataJob, draw_held_out, pack_shards, prepare_documents
from cpt_ray.edges.process import process_pool
from cpt_ray.records import Made

_IN_OPEN, _IN_CLOSE = 0x20, 0x18
"""Closes are asked for too: of two equal events in a row the kernel keeps one, and a close lies between two opens."""
_EVENT = struct.Struct("iIII")
_FOLDERS = (
    *("raw", "inputs", "clean", "keys", "ids", "sketches", "lists", "pairs", "repeats", "roots", "near_duplicates", "profile"),
    *("merged", "drawn", "shards", "hits", "units", "units/read", "units/clean", "units/duplicate_pairs", "units/components"),
    *("units/near_duplicates", "units/profile", "units/held_out", "units/pack"),
)


class Opens:
    """Counts the opens of files in some folders, which it makes: `with Opens(folders) as opens`."""

    def __init__(self, folders: list[Path]) -> None:
        self.by_folder: Counter[str] = Counter()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init()
        self._names: dict[int, str] = {}
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            watch = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), _IN_OPEN | _IN_CLOSE)
            if watch < 0:
                raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
            self._names[watch] = folder.name
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Opens:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A last open that the reader sees after all others.
        last = next(iter(self._names))
        self._libc.inotify_rm_watch(self._handle, last)
        self._reader.join()
        os.close(self._handle)

    def _read(self) -> None:
        while True:
            data, place = os.read(self._handle, 1 << 20), 0
            while place < len(data):
                watch, mask, _, size = _EVENT.unpack_from(data, place)
                place += _EVENT.size + size
                if mask & 0x4000:  # IN_Q_OVERFLOW
                    raise RuntimeError("more opens than could be counted")
                if mask & 0x8000:  # IN_IGNORED: the watch that was removed, or a folder that was deleted
                    if watch == next(iter(self._names)):
                        return
                elif mask & _IN_OPEN and not mask & 0x40000000:  # not a folder itself
                    self.by_folder[self._names[watch]] += 1


def measure(megabytes: int, unit_bytes: int) -> Claim:
    """Prepare a corpus in many units, and count."""
    prepare = PREPARE.model_copy(update={"unit_bytes": unit_bytes})
    sources, model = (
        [source_of(synthetic.write_corpus(CACHE / f"corpus-{megabytes}", megabytes, files=2))],
        Bench(quick=True).model(),
    )
    before = pipeline._KEYS_PER_PARTITION
    pipeline._KEYS_PER_PARTITION = 1
    try:
        with tempfile.TemporaryDirectory() as name, process_pool(WORKERS) as pool:
            root = Path(name)
            # The watch that ends the count is on a folder of its own.
            places = [root / "last", *(root / part / one for part in ("documents", "held_out", "shards") for one in _FOLDERS)]

            def job(part: str) -> DataJob:
                return DataJob(sources, prepare, root / part, num_workers=WORKERS, pool=pool)

            with Opens(places) as opens:
                documents = Made(root / "documents", prepare_documents(job("documents")))
                held_out = Made(root / "held_out", draw_held_out(job("held_out"), documents))
                pack_shards(job("shards"), documents, held_out, model_tokenizer(model), None)
    finally:
        pipeline._KEYS_PER_PARTITION = before
    most = pipeline._PARTITIONS * before / (1 + prepare.near_duplicates.bands)
    units, total = len(documents.record.units), sum(opens.by_folder.values())
    return Claim(
        id="scale.opens_per_unit",
        possible=POSITIVE,
        claim=f"opens of prepared files per unit from raw files to shards, {units} units, keys in {pipeline._PARTITIONS} "
        f"partitions as from {most / 1e6:.1f} million documents on (counted by the kernel)",
        value=total / units,
        unit="opens",
        target="<= 100",
        raw={"units": units, "opens": total, "by_folder": dict(opens.by_folder.most_common())},
    )
