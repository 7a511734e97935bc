"""`cpt-ray plan --measure`: a few real steps of each model in child processes, and the preparation of a sample of the text.

In: a study; its bases are imported first. Out: trials and a rate below its root, for later plans (`plan/trials.py`). As many
workers are started as a group has, as far as this machine has their memory: processes that share cores slow each other, and a
trial must feel that.
"""

from __future__ import annotations

import datetime
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from cpt_ray.config.devices import choose_device
from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.run.pipeline import DataJob, prepare_documents
from cpt_ray.edges.device import read_device
from cpt_ray.edges.ray_runtime import put_interpreter_on_path, worker_environment
from cpt_ray.edges.store import address
from cpt_ray.errors import ConfigError, CptRayError
from cpt_ray.plan.hours import PACK_BYTES_PER_CORE_S
from cpt_ray.plan.trials import SavedRate, SavedTrial
from cpt_ray.records import ImportedModel, MemoryPlan, Trial
from cpt_ray.study import store
from cpt_ray.study.cost.cells import Cost, plan_cell
from cpt_ray.study.cost.place import find_place
from cpt_ray.study.cost.shapes import model_shapes
from cpt_ray.study.cost.trials import save_rate, save_trial, text_fingerprint
from cpt_ray.study.graph import CellGraph
from cpt_ray.study.stages.models import MODELS, waits
from cpt_ray.study.stages.stage import Node
from cpt_ray.study.stages.train import deepspeed_of
from cpt_ray.study.study import StudyDriver
from cpt_ray.train.task import TrialTask

_TRAIN_S = 20.0
_LIMIT_S = 900
_SAMPLE_DOCUMENTS = 1500
"""Of each source."""


def measure(study: StudyDriver) -> None:
    """Measure the models of a study's chosen cells, each once in each precision, and the text of the first cell.

    Raises:
        ConfigError: If a model cannot be imported yet, or a trial fails.
    """
    nodes = study.graph.of(MODELS)
    if late := [node.name for node in nodes if waits(node) and not store.exists(node)]:
        raise ConfigError(
            f"--measure needs model {late[0]}, whose tokenizer is learned from the text",
            fix="run cpt-ray prepare first, with the same study file and overrides",
        )
    if not all(store.exists(node) for node in nodes):
        with study:
            study.make_stage(MODELS)
    tried: set[tuple[Path, str]] = set()
    for graph in study.graph.cells:
        cost = plan_cell(graph)
        for node, memory in zip(graph.of(MODELS), cost.memory, strict=True):
            key = (node.folder, graph.config.train.precision)
            if key not in tried:  # other settings are scaled from it
                tried.add(key)
                study.console.progress(f"  {node.name}: a few steps in {memory.num_workers} worker(s), about a minute")
                path = save_trial(graph.root, _try_model(graph, node, memory, cost))
                study.console.step(f"  measured {node.name}: {address(path)}")
    study.console.progress("  preparing a sample of the text")
    try:
        save_rate(study.root, _try_text(study.graph.cells[0]))
    except CptRayError as error:  # a sample may have too little text to be prepared
        study.console.warn(f"the text was not measured: {error.problem}")


def _try_model(graph: CellGraph, node: Node[Any, ImportedModel], memory: MemoryPlan, cost: Cost) -> SavedTrial:
    config, runtime = graph.config, graph.config.runtime
    on_gpu = choose_device(runtime, read_device(ask_torch=False)) == "gpu"
    workers = memory.num_workers if memory.num_workers * memory.host_peak_bytes < psutil.virtual_memory().total else 1
    keys = list(cost.plan.measured_keys.values())
    row_tokens = config.prepare.pack.sequence_length
    mean_keys = sum(keys) / len(keys) if keys else row_tokens / 2
    model = next(one for one in config.models if one.name == node.name)
    task = TrialTask(
        model_folder=str(store.require(node)),
        trust_remote_code=model.trust_remote_code,
        train=config.train,
        deepspeed=deepspeed_of(graph),
        runtime=runtime,
        micro_batch=memory.rows,
        workers=workers,
        sequence_length=row_tokens,
        segment_tokens=min(row_tokens, max(1, round(2 * mean_keys))),
        vocabulary_size=model_shapes(graph)[node.name].vocabulary_size,
        threads=max(1, int(runtime.cpus_per_worker)) if runtime.kind == "ray" else None,
        seconds=_TRAIN_S,
    )
    return SavedTrial(
        model=node.name,
        device=find_place(runtime).device if on_gpu else "cpu",
        shape=model_shapes(graph)[node.name],
        train=config.train,
        deepspeed=task.deepspeed,
        micro_batch=memory.rows,
        workers=workers,
        row_tokens=row_tokens,
        mean_keys=mean_keys,
        trial=run_trial(task),
        created=_now(),
    )


def run_trial(task: TrialTask) -> Trial:
    """Run a trial's workers on this machine, and wait for them.

    Raises:
        ConfigError: If one of them fails; with the last line that it wrote.
    """
    put_interpreter_on_path()
    # A group that this process is told of is not the trial's.
    alone = {name: value for name, value in os.environ.items() if name not in _GROUP}
    with tempfile.TemporaryDirectory(prefix="cpt-ray-trial-") as name:
        folder = Path(name)
        (folder / "task.json").write_text(task.to_json(), encoding="utf-8")
        files = [str(folder / "task.json"), str(folder / "result.json")]
        with (folder / "log").open("wb") as log:
            workers = [
                subprocess.Popen(
                    [sys.executable, "-m", "cpt_ray.train.runs.trial", *files],
                    env={**alone, **worker_environment(task.runtime), **ranks},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
                for ranks in _ranks(task.workers)
            ]
            failed = _wait(workers)
        if failed or not (folder / "result.json").is_file():
            lines = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ConfigError(
                f"--measure: a worker of the trial failed: {lines[-1][:300] if lines else 'it wrote nothing'}",
                fix="lower train.micro_batch_size if it ran out of memory; cpt-ray plan without --measure needs no trial",
            )
        return Trial.load(folder / "result.json")


_GROUP = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK")
"""Variables by which torch finds its process group."""


def _ranks(workers: int) -> list[dict[str, str]]:
    """The environment of each worker of a process group."""
    if workers == 1:
        return [{}]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1]), "WORLD_SIZE": str(workers)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(workers)]


def _wait(workers: list[subprocess.Popen[bytes]]) -> bool:
    """Whether a worker failed; the others are then ended, as they wait for it."""
    end = time.monotonic() + _LIMIT_S
    try:
        while any(one.poll() is None for one in workers):
            if any(one.poll() for one in workers) or time.monotonic() > end:
                return True
            time.sleep(0.1)
        return any(one.returncode for one in workers)
    finally:
        for one in workers:
            if one.poll() is None:
                one.kill()
            one.wait()


def _try_text(graph: CellGraph) -> SavedRate:
    """Prepare the first documents of each source in this process, as units of the whole are."""
    config = graph.config
    sources = [_beginning(source) for source in config.read_sources]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="cpt-ray-sample-") as folder, ThreadPoolExecutor(1) as pool:
        record = prepare_documents(DataJob(sources, config.prepare, Path(folder), num_workers=1, pool=pool))
    seconds = time.perf_counter() - start
    read = sum(report.input.bytes for report in record.reports if report.stage == "read")
    kept = sum(report.kept.bytes for report in record.reports if report.stage == "near_duplicates")
    packed_s = kept / PACK_BYTES_PER_CORE_S  # which the sample leaves out
    return SavedRate(sources=text_fingerprint(graph), sampled_bytes=read, seconds=seconds + packed_s, created=_now())


def _beginning(source: SourceConfig) -> SourceConfig:
    most = min(source.limit_documents or _SAMPLE_DOCUMENTS, _SAMPLE_DOCUMENTS)
    return source.model_copy(update={"limit_documents": most})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
