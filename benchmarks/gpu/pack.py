"""Pack what a GPU host without network needs into `gpu-bundle/`: wheels, texts, prepared shards, and the base in parts.

Run by `make gpu-bundle` as `python -m benchmarks.gpu.pack`; needs `make corpora`, and network once for the wheels. `--tiny`
packs a rehearsal for a CPU: a random model of two layers and little text. Git ignores the folder.

    wheels/          what the host lacks, pure Python but for a few megabytes; installed without network
    text/*.parquet   one file per source, read with the project's own readers
    root/part-*      the study's root: everything that `cpt-ray prepare` made, except the base
    base/part-*      the base model; a host that lacks them measures speed and skips the study
    overrides        what a rehearsal changes in study.yaml, a line each
    bundle.json      every file with its hash, and the code that they are for
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.gpu.bundle import FOLDER, REPOSITORY, split, write_list, write_parts
from cpt_ray.config.load import load_study
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read import plan_reads, read_documents
from cpt_ray.edges.packages import resolve_package
from cpt_ray.records import Document

STUDY = Path(__file__).with_name("study.yaml")
TEXTS = REPOSITORY / "configs" / "education_local.yaml"
"""The study whose sources are packed."""

PACKAGES = (
    "annotated-types", "brotli", "charset-normalizer", "deepspeed", "einops", "fastwarc", "fsspec", "gguf", "hjson",
    "hypothesis", "iniconfig", "jinja2", "msgpack", "ninja", "peft", "pluggy", "psutil", "py-cpuinfo", "py3langid",
    "pydantic", "pydantic_core", "pygments", "pytest", "pytest-timeout", "regex", "requests", "resiliparse",
    "sortedcontainers", "tqdm", "typing-inspection", "typing_extensions", "urllib3",
)  # fmt: skip
"""What a host lacks that has torch, transformers, pyarrow, scipy and matplotlib; versions are those of requirements.lock."""
LIGER = "liger-kernel==0.8.5"
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

TEXT = (24_000_000, None)
"""Bytes of text per source, enough for the largest budget, and of a document."""
TINY_TEXT = (150_000, 3_000)
TINY = (
    "prepare.pack.sequence_length=256", "prepare.unit_bytes=1MB", "prepare.held_out.share=0.1", "train.budgets=[8k,16k,32k]",
    "train.global_batch_size=4", "train.micro_batch_size=2", "train.schedule.warmup=1k", "train.checkpoint_every=8k",
    "evaluate.held_out_documents=4", "evaluate.document_tokens=256", "evaluate.context=256", "evaluate.batch_tokens=512",
    "train.schedule.cooldown_share=0.25",
)  # fmt: skip
"""What a rehearsal changes in the study."""


def main() -> None:
    """Pack the bundle."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a rehearsal for a CPU")
    parser.add_argument("--python", default="3.12", help="the host's Python (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    out: Path = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    overrides = TINY if arguments.tiny else ()
    (out / "overrides").write_text("".join(f"{line}\n" for line in overrides), encoding="utf-8")
    print("bundle 1/4: wheels", flush=True)
    pack_wheels(out / "wheels", arguments.python)
    print("bundle 2/4: texts", flush=True)
    pack_texts(out / "text", *(TINY_TEXT if arguments.tiny else TEXT))
    with tempfile.TemporaryDirectory() as scratch:
        base = tiny_base(Path(scratch) / "base") if arguments.tiny else Path(resolve_package(load_study(TEXTS).models[0].base))
        print("bundle 3/4: the study's text, prepared", flush=True)
        pack_root(out, Path(scratch) / "root", base, overrides)
        print("bundle 4/4: the base", flush=True)
        split(base, out / "base")
    tree = write_list(out, commit=_commit(), tiny=arguments.tiny)
    for name, file in tree["files"].items():
        if file["bytes"] > 1e6:
            print(f"  {file['bytes'] / 1e6:6.1f} MB  {name}")
    print(f"{out}: {sum(file['bytes'] for file in tree['files'].values()) / 1e6:.1f} MB for Python {arguments.python}")


def pack_wheels(folder: Path, python: str) -> None:
    """Fetch or build the wheels that a host lacks, for its Python."""
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").lower().splitlines()
    lock = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    platform = [f"--platform={name}" for name in _PLATFORMS]
    wanted = [f"{name}=={lock[name]}" for name in PACKAGES if name != "deepspeed"]
    _pip("download", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platform, "-d", folder,
         *wanted, LIGER)  # fmt: skip
    # A source distribution of pure Python, as long as its operators are built where they are used.
    environment = {"DS_BUILD_OPS": "0"}
    _pip("wheel", "--no-build-isolation", "-w", folder, f"deepspeed=={lock['deepspeed']}", environment=environment)
    # From a copy: a build in the tree litters it. Its metadata is asked for when a study runs.
    with tempfile.TemporaryDirectory() as copy:
        for name in ("cpt_ray", "pyproject.toml", "README.md"):
            source, target = REPOSITORY / name, Path(copy) / name
            shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
        _pip("wheel", "--no-build-isolation", "-w", folder, copy)


def pack_texts(folder: Path, most_bytes: int, document: int | None) -> None:
    """Write the sources that `study.yaml` names as Parquet: so many bytes of text of each, and characters of a document."""
    folder.mkdir(parents=True)
    wanted = {source.name for source in load_study(STUDY).sources}
    for source in load_study(TEXTS).sources:
        if source.name in wanted:
            pq.write_table(
                _texts(source, most_bytes, document),
                folder / f"{source.name}.parquet",
                compression="zstd",
                compression_level=15,
            )


def _texts(source: SourceConfig, most_bytes: int, document: int | None) -> pa.Table:
    ids, texts, size = [], [], 0
    for task in plan_reads(source, 64_000_000):
        for item in read_documents(task, source):
            if isinstance(item, Document) and size < most_bytes and item.language in (None, "en"):
                ids.append(item.id)
                texts.append(item.text[:document])
                size += len(texts[-1].encode())
    return pa.table({"id": ids, "text": texts})


def tiny_base(folder: Path) -> Path:
    """A random model of two layers with the real tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    from benchmarks.gpu.shapes import TINY_SHAPE, config

    imported = load_study(TEXTS).models[0]
    path = Path(resolve_package(imported.base))
    torch.manual_seed(0)
    LlamaForCausalLM(config(TINY_SHAPE)).to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
    return folder


def pack_root(out: Path, root: Path, base: Path, overrides: tuple[str, ...]) -> None:
    """Prepare the study under `root` and pack it, without the base's import: that is made on the host."""
    command = [sys.executable, "-m", "cpt_ray.cli.main", "prepare", str(STUDY), f"study.root={root}", f"models.0.base={base}"]
    sources = [f"sources.{path.stem}.path={path}" for path in sorted((out / "text").glob("*.parquet"))]
    subprocess.run([*command, *sources, *overrides, "runtime.kind=ray"], cwd=REPOSITORY, check=True)
    whole = pa.BufferOutputStream()
    with pa.CompressedOutputStream(whole, "zstd") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and inside.parts[0] not in ("models", "logs", "ray", "lease.json", "known_files.json"):
                archive.add(path, arcname=str(inside))
    write_parts(whole.getvalue().to_pybytes(), out / "root")


def _pip(verb: str, *arguments: str | Path, environment: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", verb, "--no-deps", *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, **(environment or {})})


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
