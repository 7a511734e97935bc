"""A tiny model, tiny shards and a training task around them, made from scratch in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from cpt_ray.config.deepspeed import load_deepspeed
from cpt_ray.config.load import parse_study
from cpt_ray.config.study import StudyConfig
from cpt_ray.data.rows.pack import pack
from cpt_ray.data.rows.shard_index import write_index
from cpt_ray.data.rows.shards import save_manifest, write_shard
from cpt_ray.edges.lease import FILE, Lease
from cpt_ray.edges.storage import hash_file, write_atomic
from cpt_ray.model.shape import describe_model
from cpt_ray.records import DocumentKey, ImportedModel, RunRecord, RunSpec, ShardEntry, ShardManifest
from cpt_ray.train.runs.specs import plan_runs
from cpt_ray.train.task import RunSettings, TrainTask
from tests.evaluate.tiny import build_model, build_tokenizer

os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is imported

T = 64


def tiny_config(root: Path, *, arm: Mapping[str, object] = MappingProxyType({}), **train: object) -> StudyConfig:
    """A study with one tiny model and two arms; `arm` adds to the domain arm, `average` averages its largest budget."""
    root.mkdir(parents=True, exist_ok=True)
    deepspeed = root / "ds.json"
    stage, average = train.pop("stage", 2), train.pop("average", None)
    deepspeed.write_text(json.dumps({"zero_optimization": {"stage": stage, "overlap_comm": False}}))
    tree = {
        "study": {"name": "tiny", "root": str(root / "study")},
        "models": [{"name": "tiny", "base": str(root / "model")}],
        "sources": [
            {"name": "law", "role": "domain", "path": "unused/*.jsonl", "format": "jsonl"},
            {"name": "news", "role": "general", "path": "unused/*.jsonl", "format": "jsonl"},
        ],
        "prepare": {"pack": {"sequence_length": T}},
        "arms": {
            "legal": {"role": "domain", "mix": {"law": 0.75, "news": 0.25}, "max_epochs": 10, **arm},
            "control": {"role": "control", "mix": {"news": 1.0}, "max_epochs": 10},
        },
        "train": {
            "budgets": [1000, 2000],
            "learning_rate": 1e-3,
            "schedule": {"warmup": 100, "cooldown_share": 0.25},
            "global_batch_size": 4,
            "micro_batch_size": 1,
            "precision": "fp32",
            "deepspeed": str(deepspeed),
            "checkpoint_every": 500,
            **train,
        },
        "merges": [{"name": "averaged", "average": average}] if average else [],
        "runtime": {"kind": "local"},
    }
    return parse_study(tree, place="test")


def make_model(root: Path) -> Path:
    """Write a tiny model and tokenizer folder."""
    tokenizer = build_tokenizer()
    model, folder = build_model(len(tokenizer)), root / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_atomic(folder / ImportedModel.FILE, describe_model(model, tokenizer).to_json())
    return folder


def make_shards(root: Path, *, vocabulary: int = 300, documents: int = 60) -> Path:
    """Write two shards per source from seeded random documents."""
    folder = root / "shards"
    entries = []
    for source_number, source in enumerate(("law", "news")):
        for unit in range(2):
            generator = np.random.default_rng(10 * source_number + unit)
            lengths = generator.integers(5, 100, documents).tolist()
            tokens = generator.integers(1, vocabulary, sum(lengths)).astype(np.uint16)
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            rows = pack(lengths, T, "best_fit")
            path = folder / source / f"{unit}.arrow"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_shard(path, rows, tokens, starts, sequence_length=T, separator_id=0)
            keys = [DocumentKey(f"{source}/{unit:05d}/{i}", f"{source}-{unit}-{i}") for i in range(documents)]
            write_index(path.with_suffix(".parquet"), rows, keys)
            segments = len(rows.document)
            entries.append(
                ShardEntry(
                    path=f"{source}/{unit}.arrow",
                    index_path=f"{source}/{unit}.parquet",
                    source=source,
                    unit=f"{source}-{unit:05d}",
                    sha256=hash_file(path),
                    size_bytes=path.stat().st_size,
                    rows=rows.num_rows,
                    documents=documents,
                    cut_documents=0,
                    tokenizer_tokens=sum(lengths) - documents,
                    separator_tokens=documents,
                    tokens=sum(lengths),
                    segments=segments,
                    padding=rows.num_rows * T - sum(lengths),
                    loss_tokens=sum(lengths) - segments,
                )
            )
    manifest = ShardManifest(
        format_version=1,
        sequence_length=T,
        vocabulary_size=vocabulary,
        token_dtype="uint16",
        separator_id=0,
        tokenizer_sha256="0" * 64,
        shards=tuple(entries),
        reports=(),
        task_pids={},
    )
    save_manifest(folder / "manifest.json", manifest)
    return folder


def make_task(root: Path, config: StudyConfig, spec: RunSpec, run: str, parent: Path | None = None) -> TrainTask:
    """A training task with its own lease."""
    lease = root / FILE
    write_atomic(lease, Lease(attempt=1, host="test", pid=1, process_start=0, renewed=0).to_json())
    return TrainTask(
        spec=spec,
        settings=RunSettings(
            study=config.study.name,
            model=config.models[0],
            arm=config.arms[spec.arm],
            train=config.train,
            deepspeed=load_deepspeed(config.train.deepspeed),
            licenses={source.name: source.license for source in config.sources},
        ),
        model_folder=str(root / "model"),
        shards_folder=str(root / "shards"),
        derived_folders=(),
        data_fingerprint="f" * 64,
        run_folder=str(root / run),
        parent_folder=str(parent) if parent else None,
        fingerprint="e" * 64,
        parent_fingerprint="e" * 64 if parent else None,
        lease_path=str(lease),
        lease_attempt=1,
        threads=1,
    )


def spec_named(config: StudyConfig, part: str) -> RunSpec:
    """The run whose name contains `part`."""
    return next(spec for spec in plan_runs(config) if part in spec.name)


def run(root: Path, part: str, folder: str, parent: str | None = None, **train: Any) -> RunRecord:
    """Train the run whose name holds `part` in this process, in `root/folder`, from a run in `root/parent` if one is given."""
    from cpt_ray.train.worker import run_worker

    config = tiny_config(root, **train)
    run_worker(make_task(root, config, spec_named(config, part), folder, root / parent if parent else None))
    return RunRecord.of(root / folder)


def weights(export: str | Path | None) -> dict[str, Tensor]:
    """The tensors of an export."""
    return load_file(Path(str(export)) / "model.safetensors")
