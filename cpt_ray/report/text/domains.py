"""What a study's filters found, as text: classifiers on held-out examples, yields, derived sources, what arms share."""

from __future__ import annotations

from collections.abc import Iterator

from cpt_ray.records import ClassifierRecord, DomainFindings, Measured, YieldRecord
from cpt_ray.report.text.table import text_table
from cpt_ray.report.wording import count

PRINTED_THRESHOLDS = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def describe_domains(found: DomainFindings) -> list[str]:
    """Everything that is known of a study's filters, as lines; nothing of a study without."""
    lines: list[str] = []
    for classifier in found.classifiers:
        lines += _classifier(classifier)
    for one in found.yields:
        lines += ["", *_yield(one)]
    for chosen in found.selections:
        share = chosen.tokens / chosen.parent_tokens if chosen.parent_tokens else 0.0
        lines.append(
            f"source {chosen.source} ({chosen.rule}): {chosen.documents} of {chosen.parent_documents} documents and "
            f"{chosen.tokens} of {chosen.parent_tokens} tokens of {chosen.parent} ({100 * share:.1f} %)"
        )
    if found.arms is not None and found.selections:
        header = ("arm", "other arm", "documents", "tokens", "share of the arm's tokens")
        rows = [
            (
                one.arm,
                one.other,
                str(one.documents),
                str(one.tokens),
                f"{100 * one.tokens / max(found.arms.tokens[one.arm], 1):.1f} %",
            )
            for one in found.arms.shared
        ]
        lines += ["", "what arms can both draw:", text_table(header, rows, text_columns=2)]
    return ["", *lines] if lines else []


def measured(value: Measured) -> str:
    """`0.981 (0.962 to 0.991)`."""
    return f"{value.value:.3f} ({value.interval.low:.3f} to {value.interval.high:.3f})"


def _classifier(record: ClassifierRecord) -> Iterator[str]:
    fitted, at_half = record.fitted, record.fitted.at_half
    trained = f"trained on {fitted.positive.train} + {fitted.negative.train}, " if record.weights_path else ""
    yield (
        f"classifier {record.classifier} ({record.model}): {trained}calibrated on {fitted.positive.calibrate} + "
        f"{fitted.negative.calibrate}, tested on {at_half.positives} + {at_half.negatives} held-out examples"
    )
    yield (
        f"  at 0.5: precision {measured(at_half.precision)}, recall {measured(at_half.recall)}, F1 {measured(at_half.f1)}; "
        f"AUC {measured(fitted.auc)}; calibration error {fitted.calibration_error:.3f}"
    )


def _yield(found: YieldRecord) -> Iterator[str]:
    yield (
        f"{found.classifier} on {found.source}: an estimated share of {measured(found.at_half.share)} of its "
        f"{found.documents[0]} documents is positive; found from each threshold on:"
    )
    used = {one.threshold: one for one in found.used}
    rows = []
    for place, threshold in enumerate(found.thresholds):
        if threshold in used or threshold in PRINTED_THRESHOLDS:
            share = found.tokens[place] / found.tokens[0] if found.tokens[0] else 0.0
            here = used.get(threshold)
            precision = measured(here.precision) if here else ""
            recall = measured(here.held_out.recall) if here else ""
            tokens = count(found.tokens[place])
            rows.append((f"{threshold:g}", str(found.documents[place]), tokens, f"{100 * share:.1f} %", precision, recall))
    header = ("threshold", "documents", "tokens", "of all tokens", "expected precision", "recall")
    yield text_table(header, rows, text_columns=0)
