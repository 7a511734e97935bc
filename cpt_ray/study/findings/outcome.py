"""A study's findings, as its users see them: the comparison, the report, MLflow, and the summary on the terminal.

Everything here is derived from records alone, so it can be recreated at any time.
"""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path
from typing import Any

from cpt_ray.config.load import dump_study
from cpt_ray.edges.redaction import redact, redact_text
from cpt_ray.edges.storage import write_atomic
from cpt_ray.edges.store import address, exists, fresh, is_mirrored
from cpt_ray.edges.tracking.mirrored import command_that_shows, database_of
from cpt_ray.errors import CptRayError
from cpt_ray.records import (
    Comparison,
    DomainFindings,
    ExamHit,
    ExamScan,
    HeldOutPoint,
    SelectionRecord,
    TaskScan,
    read_hits,
)
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.current import is_current, report_fingerprint
from cpt_ray.report.tables.mirrored_files import corpus_tables, results_csv
from cpt_ray.report.text.preparation import render_preparation
from cpt_ray.report.text.summary import render_summary
from cpt_ray.study import store
from cpt_ray.study.cost.place import AS_CONFIGURED, Choice
from cpt_ray.study.findings.mirror import Found, mirror_study, why_not_mirrored
from cpt_ray.study.findings.planned import planned_cost
from cpt_ray.study.graph import CellGraph
from cpt_ray.study.stages.filter.classifier import CLASSIFIER
from cpt_ray.study.stages.filter.derived import ARMS, DERIVED
from cpt_ray.study.stages.filter.scores import YIELD
from cpt_ray.study.stages.scans.late_scan import LATE_SCAN
from cpt_ray.study.stages.shards import SHARDS
from cpt_ray.study.stages.stage import Node
from cpt_ray.study.stages.train import EXPORTS
from cpt_ray.study.study import StudyDriver
from cpt_ray.train.monitor.metrics import HELD_OUT, read_events, read_lineage, read_metrics

REPORT = "report.html"


def conclude(study: StudyDriver, choice: Choice = AS_CONFIGURED) -> str:
    """Write comparison and report, mirror to MLflow, and return the summary and the paths of the results.

    Args:
        study: The study, scored.
        choice: May have a price, for what predictions would cost.

    Raises:
        ConfigError: If there is no such price.
        LeaseError: If another driver has taken the study over meanwhile.
    """
    comparison = study.comparison(choice)
    study.session.require_lease()
    write_atomic(study.root / Comparison.FILE, comparison.to_json())
    report = write_study_report(study, comparison)
    said = [summarize(study, comparison), f"report:  {_shown(report)}", f"models:  {_models(study)}"]
    said.append(f"mlflow:  {_mirror(study, comparison, report)}")
    folders = {one.name: one.node.folder for one in study.grid.trained()}
    controls = frozenset(name for name, arm in study.grid.arms().items() if arm.role == "control")
    return "\n".join([*said, *study.curves.conclude(folders, comparison.points, controls)])


def require_all_scored(study: StudyDriver) -> None:
    """Say which exams and tasks have no score, once everything else is done.

    Raises:
        CptRayError: With the first reason; exit code 2, as whatever its user can fix.
    """
    failed = [one for record in study.evaluations() for one in record.failed]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise CptRayError(
            f"{failed[0].task} was not scored on {failed[0].run}: {failed[0].reason}{more}; all else is scored and kept, and "
            "tables say `failed` there",
            fix=f"{failed[0].fix}; then run the same command again: it scores only what failed",
        )


def _shown(report: Path) -> str:
    """Where the report is; of one in a bucket also where this machine has it."""
    return f"{address(report)}, here {report}" if is_mirrored(report) else str(report)


def _models(study: StudyDriver) -> str:
    """Where the exports are; of a root in a bucket, the command that brings them here."""
    folder = study.root / EXPORTS
    return shlex.join(["cpt-ray", "fetch", address(study.root), EXPORTS]) if is_mirrored(folder) else str(folder)


def _mirror(study: StudyDriver, comparison: Comparison, report: Path) -> str:
    """Mirror to MLflow; return the command that shows it, or why there is nothing to show."""
    reason = why_not_mirrored(study.config.tracking)
    if reason is not None:
        return reason
    folders = {one.name: one.node.folder for one in study.grid.trained()}
    corpus = corpus_tables(study.documents(), study.shards(study.config.models[0].name).reports)
    tables = {"results.csv": results_csv(comparison)} | {f"prepare/{name}": text for name, text in corpus.items()}
    found = Found(comparison.points, tables, comparison.answers.fits, tuple(study.evaluations()))
    mirror_study(study.mirror, study.runs(), folders, found, report)
    return _where_to_look(study.root, study.mirror.target.uri)


def _where_to_look(root: Path, uri: str) -> str:
    """The command that shows the mirror, or that brings it from a bucket; or the address of the server that shows it."""
    if (database := database_of(uri)) is None:
        return redact_text(uri)
    if is_mirrored(database):
        return shlex.join(["cpt-ray", "fetch", address(root), "mlflow"])
    return command_that_shows(uri)


def summarize(study: StudyDriver, comparison: Comparison) -> str:
    """The scores of base, budgets and control, and the verdict, as text."""
    return render_summary(
        comparison,
        study.evaluations(),
        not_annealed={run.run for run in study.runs() if not run.annealed},
        merged={run.run for run in study.runs() if run.merge is not None},
        isolated=_isolated(study),
    )


def _isolated(study: StudyDriver) -> bool:
    return all(cell.config.train.isolation == "document" for cell in study.graph.cells)


def summarize_preparation(study: StudyDriver) -> str:
    """How much text each step of preparation kept, up to the first model's shards."""
    model = study.config.models[0].name
    scans, hits = exam_scans(study.graph.cells[0], model)
    return render_preparation(study.documents(), study.shards(model), scans, hits, domain_findings(study.graph.cells[0]))


def write_study_report(study: StudyDriver, comparison: Comparison) -> Path:
    """Write the HTML report from records, unless it shows what it would show."""
    contents, path = gather(study, comparison), study.root / REPORT
    if not (exists(path) and is_current(fresh(path), report_fingerprint(contents))):
        from cpt_ray.report.page import write_report

        write_report(path, contents)
    return path


def gather(study: StudyDriver, comparison: Comparison) -> ReportContents:
    """Everything that a report shows, from records."""
    artifacts = {node.label: store.find(node) for node in study.graph.all()}
    timings: dict[str, float] = {}
    for artifact in filter(None, artifacts.values()):
        timings[artifact.stage] = timings.get(artifact.stage, 0.0) + artifact.wall_s
    documents = study.documents()
    manifest = study.shards(study.config.models[0].name)
    scans, hits = exam_scans(study.graph.cells[0], study.config.models[0].name)
    folders = {one.name: one.node.folder for one in study.grid.trained()}
    # Not the time of writing: the same records give the same bytes.
    newest = max((artifact.created for artifact in artifacts.values() if artifact), default=_now())
    return ReportContents(
        study=study.config.study.name,
        created=newest,
        config_yaml=dump_study(study.config, redact),
        funnel=manifest.reports,
        manifest=manifest,
        held_out=study.held_out().sets,
        runs=tuple(study.runs()),
        metrics={name: read_metrics(folder, rows=False) for name, folder in folders.items()},
        comparison=comparison,
        evals=tuple(study.evaluations()),
        arms=study.grid.arms(),
        stage_timings=timings,
        versions=next((artifact.versions for artifact in artifacts.values() if artifact), {}),
        base_note="; ".join(" ".join(filter(None, (f"{m.name}: {m.base}.", m.note))) for m in study.config.models),
        labels=() if _isolated(study) else ("isolation: none: packed documents see each other",),
        scans=tuple(scans),
        exam_hits=tuple(hits),
        samples=(*documents.samples, *manifest.samples),
        profile=documents.profile,
        languages=documents.languages,
        redacted=documents.redacted,
        invisible=documents.invisible,
        repeated_ids=documents.repeated_ids,
        watched={name: read_lineage(folder, HELD_OUT, HeldOutPoint) for name, folder in folders.items()},
        warnings={
            name: tuple(event for event in read_events(folder) if event.kind in ("warning", "hang"))
            for name, folder in folders.items()
        },
        domains=domain_findings(study.graph.cells[0]),
        planned=planned_cost(study, [one for one in artifacts.values() if one]),
        lineage={label: artifact.fingerprint for label, artifact in artifacts.items() if artifact},
    )


def domain_findings(graph: CellGraph) -> DomainFindings:
    """What the study's classifiers, thresholds and derived sources found, for the first model's tokens."""
    model = graph.config.models[0].name
    derived = [store.require(node) for node in graph.of(DERIVED) if node.work.model == model]
    return DomainFindings(
        classifiers=tuple(store.load(node) for node in graph.of(CLASSIFIER)),
        yields=tuple(store.load(node) for node in graph.of(YIELD)),
        selections=tuple(SelectionRecord.of(folder) for folder in derived),
        arms=next((store.load(node) for node in graph.of(ARMS)), None),
    )


def exam_scans(graph: CellGraph, model: str) -> tuple[list[TaskScan], list[ExamHit]]:
    """Exam items found in a model's text: before packing, then in the packed rows."""
    nodes: list[Node[Any, Any]] = [graph.one(SHARDS, model), *(node for node in graph.of(LATE_SCAN) if node.name == model)]
    folders = [store.require(node) for node in nodes]
    scans = [task for folder in folders for task in ExamScan.of(folder).tasks]
    return scans, [hit for folder in folders for hit in read_hits(folder)]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
