"""Runs of different studies side by side: a table of differences, a sentence for each, and what could not be paired."""

from __future__ import annotations

from cpt_ray.compare.across import Pairing
from cpt_ray.compare.verdict import sentence
from cpt_ray.records import Delta
from cpt_ray.report.text.table import text_table
from cpt_ray.report.wording import delta_digits, judgement, measure_name, number, percent, signed

_HEADER = ("set", "measure", "reference", "subject", "difference", "interval", "relative", "judgment")


def render_pairing(found: Pairing) -> str:
    """What two runs share, in the words of a study's verdict, and what they do not."""
    lines = ["", f"subject: {found.subject}", f"reference: {found.reference}"]
    if found.deltas:
        seeds = found.deltas[0].seeds
        lines[1] += f" ({seeds} seeds)" if seeds > 1 else ""
        lines += [text_table(_HEADER, [_row(delta) for delta in found.deltas], text_columns=2, rule=True), ""]
        lines += [f"{_upper(sentence(delta))}." for delta in found.deltas]
    return "\n".join([*lines, *(f"Not compared: {reason}." for reason in found.refused)])


def _row(delta: Delta) -> tuple[str, ...]:
    digits = delta_digits(delta) + 1
    ends = f"{signed(delta.interval.low, digits)} to {signed(delta.interval.high, digits)}" if delta.interval else "none"
    return (
        delta.set_name,
        measure_name(delta),
        number(delta.reference_value, digits),
        number(delta.subject_value, digits),
        signed(delta.difference, digits),
        ends,
        percent(delta.relative_percent),
        judgement(delta),
    )


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
