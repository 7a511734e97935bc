"""The limit on bad records, applied to a whole source after its units are read.

Part of stage `read`; runs on the driver. Memory: the reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cpt_ray.config.sections.prepare import SourceConfig
from cpt_ray.data.read.documents import BAD
from cpt_ray.data.read.reading import LEFT_OUT
from cpt_ray.errors import DataError
from cpt_ray.records import StageReport

_SHOWN = 120


def check_bad_share(
    reports: Iterable[StageReport], sources: Sequence[SourceConfig], samples: Sequence[Mapping[str, str]]
) -> None:
    """Refuse a source with more bad records than its `max_bad_share`.

    Args:
        reports: One report of stage `read` per source.
        sources: The study's sources.
        samples: Rejected records, one of which is shown; its `id` is its location.

    Raises:
        DataError: With the counts, the most common reason and a location.
    """
    by_name = {report.source: report for report in reports}
    for source in sources:
        report = by_name.get(source.name)
        if report is None:
            continue
        bad = {reason: amount.documents for reason, amount in report.dropped.items() if reason in BAD}
        count = sum(bad.values())
        records = report.input.documents - sum(
            n.documents for reason, n in report.dropped.items() if reason.startswith(LEFT_OUT)
        )
        if count <= source.max_bad_share * records:
            continue
        worst = max(bad, key=lambda reason: (bad[reason], reason))
        shown = next((s for s in samples if (s["source"], s["reason"]) == (source.name, worst)), {"id": "", "text": ""})
        raise DataError(
            f"source {source.name}: {count} of {records} records are bad ({count / records:.1%}), but max_bad_share is "
            f"{source.max_bad_share:g}; {bad[worst]} are {worst}, for example {shown['id']}: {shown['text'][:_SHOWN]}",
            fix=f"{BAD[worst].format(source=source.name)}; or raise max_bad_share of source {source.name}",
        )
