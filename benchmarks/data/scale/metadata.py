"""The driver's share of a large study: reports, manifest, list of files and commit of 10^5 packed units; no text.

Commands: `pack FOLDER UNITS` does what a driver does with the reports of so many
packed units, which are as large as those of the demo, and commits the artifact; its files are empty. `stages FOLDER UNITS` runs
six stages of so many units in a pool, as preparation does, and keeps what all reported. `noop FOLDER UNITS` looks at the
committed artifact as a command does that finds everything made. Each runs in a fresh process and prints its figures as JSON;
imports are excluded.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cpt_ray.config.sections.prepare import PrepareConfig, SourceConfig
from cpt_ray.data.rows.shards import ShardReader, save_manifest
from cpt_ray.data.run.merge import shard_table
from cpt_ray.data.run.reports import UnitReports
from cpt_ray.data.run.run_stage import run_stage
from cpt_ray.data.run.training_tasks import PackUnit
from cpt_ray.data.run.units import Tally, UnitContext, finish_unit, report_entry
from cpt_ray.edges.process import process_pool
from cpt_ray.records import FileEntry, ShardManifest, UnitFacts, UnitReport
from cpt_ray.study import store
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Node, Planned

SOURCES = ("law", "news", "web")
STAGES = ("read", "clean", "near_duplicates", "profile", "held_out", "pack")
_COUNTS = ("rows", "documents", "cut_documents", "tokenizer_tokens", "separator_tokens", "bos_tokens", "tokens", "segments")
_COUNTS += ("padding", "loss_tokens", "control_spellings")
_WORKERS = 2


def measure(command: str, folder: Path, units: int) -> dict[str, float]:
    """The figures of a command, from a fresh process."""
    child = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import main; main({command!r}, {str(folder)!r}, {str(units)!r})"],
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise RuntimeError(f"{command} of {units} units: {child.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return figures


def node_of(folder: Path) -> Node[object, ShardManifest]:
    """The shards artifact of the made-up study."""
    return store.locate(folder, SHARDS, Planned("made-up", inputs={}, settings={}, work=None))  # type: ignore[arg-type]


def tasks_of(units: int) -> list[PackUnit]:
    """The tasks of the last stage, which has the largest."""
    common = {"share": 0.02, "exam_items": "inputs/exam-items-000000000000.jsonl", "separator_id": 0, "bos_id": None}
    common |= {"tokenizer": "inputs/tokenizer-000000000000.json", "token_dtype": "uint16"}
    tasks = []
    for number in range(units):
        source = SOURCES[number % len(SOURCES)]
        unit = f"{source}-{number:06d}"
        files = {"clean": f"clean/{unit}-{'0' * 12}.parquet", "near_duplicates": f"near_duplicates/{unit}-{'0' * 12}.parquet"}
        tasks.append(PackUnit(unit=unit, source=source, **files, **common))
    return tasks


def context_of(folder: Path) -> UnitContext:
    """Settings and folder of the made-up study."""
    sources = [SourceConfig(name=name, role="domain", path=("x",)) for name in SOURCES]
    return UnitContext(folder=str(folder), sources=tuple(sources), prepare=PrepareConfig())


def facts_of(task: PackUnit, stage: str) -> UnitFacts:
    """What a task reports, as in the demo: packing three stages, eleven counts and three samples of 200 characters."""
    tallies = [Tally(f"{stage}-{part}", task.source) for part in range({"pack": 3, "profile": 0}.get(stage, 1))]
    for tally in tallies:
        tally.keep(3000)
        tally.drop("held_out_overlap", 2000)
    names = {"identity": f"{task.source}/00000/1", "id": "a-document", "text": "word " * 40}
    sample = {"stage": f"{stage}-0", "source": task.source, "reason": "held_out_overlap", **names}
    return UnitFacts(
        reports=tuple(tally.report() for tally in tallies),
        counts=dict.fromkeys(_COUNTS, 1) if stage == "pack" else {},
        samples=(sample,) * 3 if tallies else (),
        languages={"en": 900, "de": 100},
    )


def outputs_of(task: PackUnit) -> dict[str, tuple[FileEntry, ...]]:
    """The two files of a packed unit."""
    digest = hashlib.sha256(task.unit.encode()).hexdigest()
    stem = f"shards/{task.unit}-{digest[:12]}"
    shard, index = (FileEntry(path=f"{stem}{end}", size_bytes=0, sha256=digest) for end in (".arrow", ".index.parquet"))
    return {"shard": (shard,), "index": (index,), "hits": (), "dropped": ()}


def stage_unit(task: PackUnit, context: UnitContext, *, stage: str) -> UnitReport:
    """What a task of a stage leaves: its report."""
    return finish_unit(task, context, stage, outputs_of(task), facts_of(task, stage))


def texts_of(tasks: list[PackUnit], folder: Path, *, write: bool) -> Iterator[str]:
    """The report of each task as it arrives, and its empty files."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    (folder / "units" / "pack").mkdir(parents=True, exist_ok=True)
    for task in tasks:
        facts = facts_of(task, "pack")
        fields = {name: getattr(facts, name) for name in UnitFacts.model_fields}
        who = {"unit": task.unit, "stage": "pack", "task_checksum": 0, "pid": 1, "node": "node"}
        report = UnitReport.model_validate({**fields, **who, "outputs": outputs_of(task)})
        text = report.to_json()
        if write:
            (folder / report_entry(report, text).path).write_text(text)
            for entry in report.files:
                (folder / entry.path).touch()
        yield text


def pack(root: Path, units: int) -> dict[str, float]:
    """Reports of packed units in, a committed artifact out; what makes up the reports is not counted."""
    node = node_of(root)
    folder = node.folder
    before, parts = memory_mib(), {}
    tasks = tasks_of(units)
    reports = UnitReports("pack", tasks, context_of(folder))
    spent = 0.0
    for text in texts_of(tasks, folder, write=True):
        started = time.process_time()
        reports.add(UnitReport.from_json(text), text)
        spent += time.process_time() - started
    parts["reports_cpu_s"] = spent
    started = time.process_time()
    reports.save()
    fields = {"format_version": 4, "sequence_length": 2048, "vocabulary_size": 49152, "token_dtype": "uint16"}
    manifest = ShardManifest.model_validate(
        {**fields, "separator_id": 0, "tokenizer_sha256": "", "reports": reports.reports, "task_pids": {}}
        | {"shards": shard_table(reports), "samples": reports.samples}
    )
    save_manifest(folder / ShardManifest.FILE, manifest)
    parts["manifest_cpu_s"] = time.process_time() - started
    del tasks, reports, manifest  # they end with the function that packs
    started = time.process_time()
    artifact = store.commit(node, started=time.perf_counter())
    parts["commit_cpu_s"] = time.process_time() - started
    return {
        "units": units,
        "files": len(artifact.files),
        **parts,
        "cpu_s": sum(parts.values()),
        "peak_mib": memory_mib("VmHWM") - before,
        "bytes_per_unit": (memory_mib("VmHWM") - before) * 2**20 / units,
    }


def stages(root: Path, units: int) -> dict[str, float]:
    """Six stages of units through a pool, all of their reports kept; the tasks' own time is not counted."""
    import functools

    context = context_of(root / "stages")
    tasks = tasks_of(units)
    kept = []
    with process_pool(_WORKERS) as pool:
        before, started, started_all = memory_mib(), time.thread_time(), time.process_time()
        for stage in STAGES:
            work = functools.partial(stage_unit, stage=stage)
            kept.append(
                run_stage(stage, work, tasks, context=context, num_workers=_WORKERS, progress=lambda *_: None, pool=pool)
            )
        spent, spent_all = time.thread_time() - started, time.process_time() - started_all
    peak = memory_mib("VmHWM") - before
    if any(len(found.paths("shard")) != units for found in kept):
        raise RuntimeError("a unit has no file")
    return {"units": units, "stages": len(STAGES), "cpu_s": spent, "pool_cpu_s": spent_all - spent, "peak_mib": peak}


def noop(root: Path, units: int) -> dict[str, float]:
    """What a command does with a finished artifact: find it, load its manifest, open a reader on it."""
    before = memory_mib()
    started, started_cpu = time.perf_counter(), time.process_time()
    node = node_of(root)
    artifact = store.find(node)
    found_s = time.perf_counter() - started
    manifest = store.load(node)
    reader = ShardReader(node.folder, manifest)
    rows = sum(reader.num_rows(source) for source in SOURCES)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    if artifact is None or rows != units:
        raise RuntimeError(f"{rows} rows of {units} units")
    return {
        "units": units,
        "files": len(artifact.files),
        "find_s": found_s,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "peak_mib": memory_mib("VmHWM") - before,
    }


def memory_mib(field: str = "VmRSS") -> float:
    """Resident memory of this process, now or at its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def main(command: str, folder: str, units: str) -> None:
    """Run one command and print its figures."""
    import pandas  # noqa: F401  (pyarrow imports it at the first array of Python values)

    figures = {"pack": pack, "stages": stages, "noop": noop}[command](Path(folder), int(units))
    print(json.dumps({**figures, "load": os.getloadavg()[0]}))
