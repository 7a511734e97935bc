"""The funnel: check that each stage receives exactly what the previous one kept, and that something is left at the end.

Used by `pipeline`. Stage reports in, the same reports or an error out. Memory: the reports.

Guarantee: in a funnel that passes, no document or byte is unaccounted for between two stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cpt_ray.data import split
from cpt_ray.data.clean import reason_key
from cpt_ray.data.read import BAD, LEFT_OUT
from cpt_ray.errors import DataError
from cpt_ray.records import StageReport, sum_reports

_HEAVY_SHARE = 0.5
_FIXES = {
    "empty": "set text_field of source {source} to the field that contains the text",
    **BAD,
    "exact_duplicate": "remove from source {source} what another source already contains",
    "near_duplicate": "raise prepare.near_duplicates.rows, or remove from source {source} what another source already contains",
    "held_out": "lower prepare.held_out.share, or add text to source {source}",
    "held_out_overlap": "raise prepare.held_out.containment_share, or add text to source {source}",
    "tokenize.control_token": "remove the control tokens from the text of source {source}",
    "exam_item": "set prepare.decontaminate.action to redact, or leave source {source} out",
}


def check_funnel(reports: Sequence[StageReport], sources: Sequence[str]) -> tuple[StageReport, ...]:
    """Sum reports, sort them by source and stage, and check each against the previous one.

    Args:
        reports: Reports of units, stage after stage.
        sources: Names in the order of the study file.

    Returns:
        One report per source and stage.

    Raises:
        DataError: If a stage lost something, or did not receive what the previous one kept.
    """
    totals = sum_reports(reports)
    ordered: list[StageReport] = []
    for source in sources:
        before: StageReport | None = None
        for report in (report.check() for report in totals if report.source == source):
            if before is not None and report.input != before.kept:
                raise DataError(
                    f"stage {report.stage} of source {source} received {report.input.documents} documents "
                    f"({report.input.bytes} bytes), but stage {before.stage} kept {before.kept.documents} "
                    f"({before.kept.bytes} bytes)",
                    fix="delete the prepared data and re-run the same command; if it happens again, report it",
                )
            ordered.append(report)
            before = report
    return tuple(ordered)


def refuse_empty(reports: Iterable[StageReport], sources: Sequence[str]) -> None:
    """Raise an error if the last stage kept nothing of a source.

    Raises:
        DataError: Naming the source, the rule that dropped most of it, and the key to change.
    """
    totals = list(reports)
    for source in sources:
        of_source = [report for report in totals if report.source == source]
        if of_source and of_source[-1].kept.documents:
            continue
        drops = [(n.documents, r.stage, reason) for r in of_source for reason, n in r.dropped.items() if n.documents]
        if not drops:
            raise DataError(f"source {source}: its files contain no documents", fix=f"check path and format of source {source}")
        count, stage, reason = max(drops)
        read = of_source[0].input.documents
        raise DataError(
            f"source {source}: none of its {read} documents are left; stage {stage} dropped the most, {count} as {reason}",
            fix=_fix(reason, source),
        )


def heavy_drops(reports: Iterable[StageReport], of: Iterable[StageReport] | None = None) -> list[str]:
    """Warnings about single rules that took more than half of what was read of a source, each with the key to change.

    Files that are left out by name are no text that was read; `check` names them. What is held out is as much as was asked for,
    or said by `draw_held_out`.

    Args:
        reports: The funnel from the first stage on.
        of: Reports of the sources and stages to warn of; all by default.
    """
    totals = list(reports)
    asked = {(report.source, report.stage) for report in (totals if of is None else of)}
    read = {
        r.source: r.input.bytes - sum(n.bytes for reason, n in r.dropped.items() if reason.startswith(LEFT_OUT))
        for r in totals
        if r.stage == "read"
    }
    return [
        f"source {report.source}: {reason} took {amount.bytes / read[report.source]:.0%} of its bytes "
        f"({amount.documents} documents, {amount.bytes / 1e6:.1f} MB); to change that, {_fix(reason, report.source)}"
        for report in totals
        for reason, amount in report.dropped.items()
        if (report.source, report.stage) in asked
        and not (reason.startswith(LEFT_OUT) or reason == split.REASON)
        and amount.bytes > _HEAVY_SHARE * read.get(report.source, 0) > 0
    ]


def _fix(reason: str, source: str) -> str:
    if reason.startswith(LEFT_OUT):
        return f"give source {source} files that hold text"
    key = f"prepare.{reason}" if reason.startswith("token_rules.") else reason_key(reason)
    if key is not None:
        return f"change {key}, or check the text of source {source}"
    return _FIXES[reason].format(source=source)
