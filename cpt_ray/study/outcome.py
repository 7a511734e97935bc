"""What a study found, as its users see it: the comparison, the report, MLflow, and the summary on the terminal.

Everything here reads records and nothing else, so any of it can be made again at any time.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpt_ray.config.load import dump_study
from cpt_ray.config.values import format_count
from cpt_ray.edges.storage import write_atomic
from cpt_ray.plan.render import text_table
from cpt_ray.records import (
    Amount,
    Comparison,
    Delta,
    DocumentsRecord,
    EvalRecord,
    ExamHit,
    HeldOutPoint,
    HeldOutScore,
    ShardManifest,
    StageReport,
    TaskScan,
)
from cpt_ray.study import store
from cpt_ray.study.corpus import corpus_tables, describe_exam_scans, describe_profile
from cpt_ray.study.graph import StudyGraph
from cpt_ray.study.mirror import Found, MirrorTarget, mirror_study
from cpt_ray.study.stages.late_scan import LATE_SCAN
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Node
from cpt_ray.study.stages.train import TRAIN
from cpt_ray.study.study import Study
from cpt_ray.train.runs.specs import trajectory_specs

REPORT = "report.html"
SCAN, HITS = "exam_scan.json", "exam_hits.jsonl"


def conclude(study: Study) -> str:
    """Write comparison and report, mirror to MLflow, and return what there is to say: the summary, and where everything is."""
    comparison = study.comparison()
    write_atomic(study.root / Comparison.FILE, comparison.to_json())
    report = write_study_report(study, comparison)
    target = MirrorTarget.of(study.config, study.graph)
    folders = {node.name: node.folder for node in study.graph.of(TRAIN)}
    tables = corpus_tables(study.documents(), study.shards(study.config.models[0].name).reports)
    mirror_study(target, study.runs(), folders, Found(comparison.points, tables), report)
    where = f"report:  {report}\nmlflow:  mlflow ui --host 127.0.0.1 --backend-store-uri {target.uri}"
    return f"{render_summary(study, comparison)}\n{where}"


def write_study_report(study: Study, comparison: Comparison) -> Path:
    """Write the HTML report from records."""
    from cpt_ray.report.contents import PlannedStates, ReportContents
    from cpt_ray.report.page import write_report
    from cpt_ray.train.monitor import held_out
    from cpt_ray.train.monitor.metrics import read_lineage, read_metrics

    artifacts = {node.label: store.find(node) for node in study.graph.all()}
    timings: dict[str, float] = {}
    for artifact in filter(None, artifacts.values()):
        timings[artifact.stage] = timings.get(artifact.stage, 0.0) + artifact.wall_s
    documents = study.documents()
    manifest = study.shards(study.config.models[0].name)
    scans, hits = exam_scans(study.graph, study.config.models[0].name)
    isolation = study.config.train.isolation
    on_gpu = study.config.runtime.gpus_per_worker > 0
    planned = {
        plan.model: PlannedStates(
            workers=plan.num_workers,
            host_bytes=plan.host_bytes if on_gpu else plan.host_bytes + plan.device_bytes,
            device_bytes=plan.device_bytes if on_gpu else None,
        )
        for plan in study.plan()[1]
    }
    newest = max((artifact.created for artifact in artifacts.values() if artifact), default=_now())
    contents = ReportContents(
        study=study.config.study.name,
        created=newest,
        config_yaml=dump_study(study.config),
        funnel=manifest.reports,
        manifest=manifest,
        held_out=study.held_out().sets,
        runs=tuple(study.runs()),
        metrics={node.name: read_metrics(node.folder) for node in study.graph.of(TRAIN)},
        comparison=comparison,
        evals=tuple(study.evaluations()),
        arms=study.config.arms,
        stage_timings=timings,
        versions=next((artifact.versions for artifact in artifacts.values() if artifact), {}),
        base_note="; ".join(" ".join(filter(None, (f"{m.name}: {m.base}.", m.note))) for m in study.config.models),
        labels=() if isolation == "document" else ("isolation: none: packed documents see each other",),
        scans=tuple(scans),
        exam_hits=tuple(hits),
        samples=(*documents.samples, *manifest.samples),
        profile=documents.profile,
        languages=documents.languages,
        redacted=documents.redacted,
        watched={node.name: read_lineage(node.folder, held_out.FOLDER, HeldOutPoint) for node in study.graph.of(TRAIN)},
        planned=planned,
        lineage={label: artifact.fingerprint for label, artifact in artifacts.items() if artifact},
    )
    path = study.root / REPORT
    write_report(path, contents)
    return path


def exam_scans(graph: StudyGraph, model: str) -> tuple[list[TaskScan], list[ExamHit]]:
    """What of exams was found in the text for a model's tokenizer: before it was packed, then in what is packed."""
    nodes: list[Node[Any, Any]] = [graph.one(SHARDS, model), *(node for node in graph.of(LATE_SCAN) if node.name == model)]
    folders = [store.require(node) for node in nodes]
    scans = [TaskScan.model_validate(row) for folder in folders for row in json.loads((folder / SCAN).read_text())]
    lines = [line for folder in folders for line in (folder / HITS).read_text().splitlines()]
    return scans, [ExamHit.from_json(line) for line in lines]


def render_funnel(study: Study) -> str:
    """The funnel of the first model's shards as plain text."""
    manifest = study.shards(study.config.models[0].name)
    rows = [row for report in manifest.reports for row in _funnel_rows(report)]
    lines = [
        _table(("stage", "source", "documents in", "kept", "dropped", "MB kept"), rows),
        "",
        *describe_packing(manifest),
        *describe_duplicates(study.documents()),
        *describe_exam_scans(*exam_scans(study.graph, study.config.models[0].name)),
        *describe_profile(study.documents(), manifest.samples),
    ]
    return "\n".join(lines)


def describe_packing(manifest: ShardManifest) -> list[str]:
    """What became of the tokens, in lines: the ledger of all sources, then how well each source's rows are filled."""
    ledger = manifest.shards
    bos = f"+ {ledger.total('bos_tokens')} BOS tokens " if manifest.bos_id is not None else ""
    lines = [
        f"tokens: {ledger.total('tokenizer_tokens')} from the tokenizer "
        f"+ {ledger.total('separator_tokens')} separators {bos}= {ledger.total('tokens')} "
        f"in {ledger.total('rows')} rows of {manifest.sequence_length}; "
        f"{ledger.total('padding')} slots of padding; {ledger.total('loss_tokens')} tokens bear loss"
    ]
    for source in ledger.sources:
        shards = manifest.of_source(source)
        lines.append(
            f"  {source}: {100 * shards.padding_share:.3f} % padding; {shards.total('cut_documents')} of "
            f"{shards.total('documents')} documents cut; {shards.segments_per_row:.1f} documents or parts per row"
        )
    return lines


def describe_duplicates(documents: DocumentsRecord) -> list[str]:
    """What duplicate removal joined, in lines: the threshold, the sizes of components, and the largest of them."""
    found, threshold = documents.components, documents.near_duplicate_threshold
    rule = "exact duplicates only" if threshold is None else f"similarity at least {threshold:.3f}, (1/bands)^(1/rows)"
    sizes = ", ".join(f"{count} of {size} documents" for size, count in found.sizes.items()) or "none"
    lines = [f"duplicates: {rule}; {found.pairs_compared} pairs compared; components: {sizes}"]
    if found.documents_left:
        lines.append(
            f"  {found.documents_left} times a document in a crowded bucket was like none of the representatives "
            "that it was compared with; more bands or rows spread them out"
        )
    for component in found.largest:
        quoted = "; ".join(
            f"{name} ({' '.join(text.split())[:40]}...)" for name, text in zip(component.members, component.texts, strict=True)
        )
        lines.append(f"  {component.documents} documents, of which the first is kept: {quoted}")
    return lines


def render_summary(study: Study, comparison: Comparison) -> str:
    """The scores of base, budgets and control, and the verdict."""
    evals = study.evaluations()
    sets = [(score.source, score.part) for score in evals[0].held_out]
    header = ("model", "tokens", *(f"{source} bits/byte" for source, _ in sets), *_exam_headers(evals))
    hollow = {point.name for point in trajectory_specs(study.specs)}
    rows = [
        (
            f"{record.run} *" if record.run in hollow else record.run,
            format_count(record.tokens_seen),
            *(_score(_find(record, key)) for key in sets),
            *(f"{100 * exam.accuracy:.1f} ± {100 * exam.accuracy_stderr:.1f} %" for exam in record.exams),
        )
        for record in evals
    ]
    labels = sorted({f"{exam.task}: {exam.label}" for record in evals for exam in record.exams})
    isolation = study.config.train.isolation
    tokens = (
        f"tokens seen: {format_count(comparison.tokens_seen)} by the model that saw most; "
        f"tokens paid: {format_count(comparison.tokens_paid)} by all runs together"
    )
    labels += ["* not annealed: its learning rate has not decayed, it is no budget"] if hollow else []
    marks = [] if isolation == "document" else ["isolation: none: packed documents see each other in every figure above"]
    return "\n".join(
        [
            "",
            _table(header, rows),
            *labels,
            *marks,
            tokens,
            "",
            comparison.headline,
            "",
            comparison.verdict,
            *comparison.notes,
            "",
        ]
    )


def render_deltas(comparison: Comparison) -> str:
    """Every paired difference as plain text."""
    return _table(
        ("subject", "reference", "set", "measure", "difference", "interval", "relative", "better"),
        [_delta_row(delta) for delta in comparison.deltas],
    )


def _funnel_rows(report: StageReport) -> Iterable[tuple[str, ...]]:
    lost = sum(report.dropped.values(), Amount())
    kept = f"{report.kept.bytes / 1e6:.2f}"
    yield report.stage, report.source, str(report.input.documents), str(report.kept.documents), str(lost.documents), kept
    for reason, amount in sorted(report.dropped.items(), key=lambda item: -item[1].documents):
        if amount.documents:
            yield "", f"  {reason}", "", "", str(amount.documents), ""


def _find(record: EvalRecord, key: tuple[str, str]) -> HeldOutScore:
    return next(score for score in record.held_out if (score.source, score.part) == key)


def _score(score: HeldOutScore) -> str:
    interval = score.bits_per_byte_interval
    return f"{score.bits_per_byte:.4f} [{interval.low:.3f}, {interval.high:.3f}]"


def _exam_headers(evals: list[EvalRecord]) -> tuple[str, ...]:
    return tuple(exam.task for exam in evals[0].exams)


def _delta_row(delta: Delta) -> tuple[str, ...]:
    verdict = {True: "better", False: "worse", None: "not resolved"}[delta.better]
    interval = f"[{delta.interval.low:+.4f}, {delta.interval.high:+.4f}]"
    return (
        delta.subject,
        delta.reference,
        delta.set_name,
        delta.measure,
        f"{delta.difference:+.4f}",
        interval,
        f"{delta.relative_percent:+.2f} %",
        verdict,
    )


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return text_table(header, rows, text_columns=2, rule=True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
