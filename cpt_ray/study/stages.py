"""The stages of a study as its verbs run them: prepare, train, evaluate, report.

Each makes the artifacts that are missing and leaves the others alone. Rooms that import Ray are imported after the session is
there: Ray reads part of its environment at import.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from cpt_ray.config.sections.evaluate import ExamConfig
from cpt_ray.edges.storage import write_atomic
from cpt_ray.records import EvalRecord, RunEvent, RunRecord, StepMetrics
from cpt_ray.study import store
from cpt_ray.study.graph import deepspeed_path, late_tasks, scanned_tasks
from cpt_ray.study.mirror import LiveMirror
from cpt_ray.study.progress import StageProgress, describe_event, describe_mixes, describe_steps
from cpt_ray.study.study import DOCUMENTS, HELD_OUT, ITEMS, MANIFEST, Study
from cpt_ray.train.task import TrainTask

RUN_FILES = ("run.json", "metrics/*", "attempts/*", "events/*", "memory/*", "held_out/*", "export/*", "trajectory/**/*")
"""What belongs to a run's artifact; checkpoints and heartbeats do not."""


def prepare(study: Study) -> None:
    """Import the base models, clean the text, draw the held-out sets, and pack shards."""
    study.console.say("prepare")
    _import_models(study)
    _check_tokenizers(study)
    _write_exams(study)
    fetch_tasks(study)
    _prepare_documents(study)
    _draw_held_out(study)
    for model in study.config.models:
        _pack_shards(study, model.name)
    for name in study.graph.late_scans:
        _scan_late(study, name)
    study.require_budgets()


def fetch_tasks(study: Study) -> None:
    """Write the items that training text is scanned for, those of lm-eval tasks among them: from the hub, once."""
    for spot, (exams, tasks) in (
        (study.graph.scan, scanned_tasks(study.config)),
        (study.graph.late_items, late_tasks(study.config)),
    ):
        if spot is not None:
            _fetch_items(study, spot, exams, tasks)


def _fetch_items(study: Study, spot: store.Place, exams: Sequence[ExamConfig], tasks: Sequence[str]) -> None:
    def build(folder: Path) -> None:
        from cpt_ray.evaluate.exams import read_exam

        items = [item.model_dump() for exam in exams for item in read_exam(exam).items]
        if tasks:
            from cpt_ray.evaluate.harness import task_items

            items += task_items(tasks, study.config.evaluate.harness_path)
        write_atomic(folder / ITEMS, "".join(json.dumps(item) + "\n" for item in items))

    study.make(spot, build, patterns=(ITEMS,))


def train(study: Study) -> None:
    """Train all runs, parents first."""
    for model in study.config.models:
        study.shards(model.name)
    study.require_budgets()
    study.console.say("train")
    pending = [name for name, spot in study.graph.runs.items() if study.reuse(spot) is None]
    if not pending:
        return
    if study.config.runtime.kind != "local":
        study.need_ray()
    from cpt_ray.train.launch import run_training

    live = {name: LiveMirror(study, study.graph.specs[name]) for name in pending}
    started = time.perf_counter()

    def on_steps(index: int, steps: tuple[StepMetrics, ...]) -> None:
        study.console.progress(describe_steps(study.graph.specs[pending[index]], steps, f"run {index + 1}/{len(pending)}"))
        live[pending[index]](steps)

    def on_event(index: int, event: RunEvent) -> None:
        study.console.say(f"  {describe_event(study.graph.specs[pending[index]], event)}")

    def on_done(_: int, record: RunRecord) -> None:
        nonlocal started
        spot = study.graph.runs[record.run]
        store.commit(spot, patterns=RUN_FILES, started=started)
        study.console.say(f"  made    {spot.label}  in {time.perf_counter() - started:.0f} s")
        for line in describe_mixes(record):
            study.console.say(line)
        started = time.perf_counter()

    study.console.progress(f"  starting {study.config.runtime.workers} worker(s) for {len(pending)} run(s)")
    run_training(
        [_train_task(study, name) for name in pending],
        name=f"{study.config.study.name}-{study.attempt}",
        runtime=study.config.runtime,
        storage=study.root / "ray",
        on_steps=on_steps,
        on_done=on_done,
        on_event=on_event,
    )


def evaluate(study: Study) -> None:
    """Score each base, each budget and each trajectory point."""
    records = {record.run: record for record in study.runs()}
    study.console.say("evaluate")
    missing = [name for name, spot in study.graph.evaluations.items() if study.reuse(spot) is None]
    if not missing:
        return
    if study.config.runtime.kind != "local":
        study.need_ray()
    from cpt_ray.evaluate.launch import EvaluateJob, EvaluateProgress, evaluate_runs
    from cpt_ray.model.base import bos_of, load_tokenizer, separator_of

    models = {model.name: model for model in study.config.models}
    jobs = []
    for name in missing:
        record = records[name]
        model, tokenizer = models[record.model], study.graph.models[record.model].folder
        engine = load_tokenizer(tokenizer, trust_remote_code=model.trust_remote_code)
        study.graph.evaluations[name].folder.mkdir(parents=True, exist_ok=True)
        jobs.append(
            EvaluateJob(
                run=record,
                tokenizer=tokenizer,
                separator=bos_of(model, engine) or separator_of(model, engine),
                folder=study.graph.evaluations[name].folder,
                trust_remote_code=model.trust_remote_code,
            )
        )

    def done(record: EvalRecord) -> None:
        spot = study.graph.evaluations[record.run]
        store.commit(spot, patterns=("**/*",), started=time.perf_counter() - record.wall_s)
        study.console.say(f"  made    {spot.label}  in {record.wall_s:.0f} s")

    def progress(now: EvaluateProgress) -> None:
        eta = f", ETA {now.eta_s:.0f} s" if now.eta_s else ""
        study.console.progress(
            f"  scoring {now.done}/{now.total} models, {now.scored_tokens} tokens, {now.tokens_per_s:.0f} tokens/s{eta}"
        )

    evaluate_runs(
        jobs,
        held_out=study.held_out(),
        held_out_folder=study.graph.held_out.folder,
        exam_items=study.graph.exams.folder / ITEMS if study.graph.exams else None,
        config=study.config.evaluate,
        compare=study.config.compare,
        runtime=study.config.runtime,
        on_done=done,
        on_progress=progress,
    )


def _import_models(study: Study) -> None:
    from cpt_ray.model.base import import_base

    for model in study.config.models:
        study.make(
            study.graph.models[model.name],
            lambda folder, model=model: import_base(model, folder),  # type: ignore[misc]
            patterns=("*",),
        )


def _check_tokenizers(study: Study) -> None:
    """Refuse a tokenizer that does not fit its model before hours of text are prepared for it."""
    from cpt_ray.data.rows.tokenize import resolve_tokenizer
    from cpt_ray.model.base import bos_of, load_tokenizer, separator_of
    from cpt_ray.model.parameters import model_shape

    for model in study.config.models:
        if store.find(study.graph.shards[model.name]) is None:
            folder = study.graph.models[model.name].folder
            trust = model.trust_remote_code
            tokenizer = load_tokenizer(folder, trust_remote_code=trust)
            separator = separator_of(model, tokenizer)
            size = model_shape(folder, trust_remote_code=trust).vocabulary_size
            resolve_tokenizer(folder, size, separator=separator, bos=bos_of(model, tokenizer))


def _write_exams(study: Study) -> None:
    if study.graph.exams is None:
        return
    from cpt_ray.evaluate.exams import write_items

    def build(folder: Path) -> None:
        written = write_items(study.config.evaluate.exams, folder)
        if written.name != ITEMS:
            written.rename(folder / ITEMS)

    study.make(study.graph.exams, build, patterns=("*.json*",))


def _prepare_documents(study: Study) -> None:
    from cpt_ray.data.read import check_inputs

    config = study.config

    def build(folder: Path) -> None:
        study.need_ray()
        from cpt_ray.data.run.pipeline import prepare_documents

        record = prepare_documents(
            config.sources,
            config.prepare,
            folder=folder,
            num_workers=config.runtime.prepare_workers,
            progress=StageProgress(study.console),
        )
        write_atomic(folder / DOCUMENTS, record.to_json())

    found = study.reuse(study.graph.documents)
    if found is None:
        study.make(study.graph.documents, build, patterns=("**/*.parquet", "**/*.json"))
        return
    for source in config.sources:
        check_inputs(study.graph.documents.folder, source)


def _draw_held_out(study: Study) -> None:
    config = study.config

    def build(folder: Path) -> None:
        study.need_ray()
        from cpt_ray.data.run.pipeline import draw_held_out

        record = draw_held_out(
            study.graph.documents.folder,
            study.documents(),
            config.sources,
            config.prepare,
            folder=folder,
            num_workers=config.runtime.prepare_workers,
            progress=StageProgress(study.console),
        )
        write_atomic(folder / HELD_OUT, record.to_json())

    study.make(study.graph.held_out, build, patterns=("**/*.json*", "**/*.npy", "**/*.parquet"))


def _pack_shards(study: Study, model: str) -> None:
    config = study.config
    tokenizer_folder = study.graph.models[model].folder

    def build(folder: Path) -> None:
        study.need_ray()
        from cpt_ray.data.rows.shards import save_manifest
        from cpt_ray.data.run.pipeline import pack_shards
        from cpt_ray.model.base import bos_of, load_tokenizer, separator_of
        from cpt_ray.model.parameters import model_shape

        model_config = next(m for m in config.models if m.name == model)
        trust = model_config.trust_remote_code
        engine = load_tokenizer(tokenizer_folder, trust_remote_code=trust)
        scan = study.graph.scan
        manifest = pack_shards(
            study.graph.documents.folder,
            study.documents(),
            study.graph.held_out.folder,
            study.held_out(),
            exam_items=scan.folder / ITEMS if scan else None,
            tokenizer=tokenizer_folder,
            separator=separator_of(model_config, engine),
            bos=bos_of(model_config, engine),
            vocabulary_size=model_shape(tokenizer_folder, trust_remote_code=trust).vocabulary_size,
            sources=config.sources,
            prepare=config.prepare,
            folder=folder,
            num_workers=config.runtime.prepare_workers,
            progress=StageProgress(study.console),
        )
        save_manifest(folder / MANIFEST, manifest)

    study.make(study.graph.shards[model], build, patterns=("**/*.arrow", "**/*.parquet", "**/*.json*"))


def _scan_late(study: Study, model: str) -> None:
    items, config = study.graph.late_items, study.config

    def build(folder: Path) -> None:
        study.need_ray()
        from cpt_ray.data.run.pipeline import scan_packed

        scan_packed(
            study.graph.documents.folder,
            study.documents(),
            study.graph.shards[model].folder,
            study.shards(model),
            exam_items=cast(store.Place, items).folder / ITEMS,
            sources=config.sources,
            prepare=config.prepare,
            folder=folder,
            num_workers=config.runtime.prepare_workers,
            progress=StageProgress(study.console),
        )

    study.make(study.graph.late_scans[model], build, patterns=("**/*.json*",))


def _train_task(study: Study, name: str) -> TrainTask:
    config, spec = study.config, study.graph.specs[name]
    shards = study.graph.shards[spec.model]
    return TrainTask(
        spec=spec,
        config=config.model_dump(mode="json"),
        model_folder=str(study.graph.models[spec.model].folder),
        shards_folder=str(shards.folder),
        held_out_folder=str(study.graph.held_out.folder),
        data_fingerprint=shards.fingerprint,
        deepspeed_path=str(deepspeed_path(config, study.config_path)),
        run_folder=str(study.graph.runs[name].folder),
        parent_folder=str(study.graph.runs[spec.parent].folder) if spec.parent else None,
        fingerprint=study.graph.runs[name].fingerprint,
        parent_fingerprint=study.graph.runs[spec.parent].fingerprint if spec.parent else None,
        lease_path=str(study.lease_path),
        lease_attempt=study.attempt,
        threads=max(1, int(config.runtime.cpus_per_worker)) if config.runtime.kind == "ray" else None,
    )
