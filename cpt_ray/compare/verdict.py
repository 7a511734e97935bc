"""The verdict: what the tokens bought, what they cost, whether to train on, in words that the figures support.

In: the differences of one arm's largest budget. Out: one sentence per model and arm, and the caveats that go with it.
Guarantee: a difference whose interval contains 0 is never called a gain or a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpt_ray.compare.deltas import Cell, reported_sets
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.config.values import format_count
from cpt_ray.records import Delta, EvalRecord

_FEW_DOCUMENTS = 30
"""Below this, the percentile bootstrap clearly falls short of its nominal coverage, more so with skewed lengths."""


@dataclass(frozen=True)
class ArmFindings:
    """The differences that the verdict on one arm is based on, over all seeds."""

    largest: Cell
    previous: Cell | None
    """The next smaller budget."""
    against_base: tuple[Delta, ...]
    against_control: tuple[Delta, ...]
    """Empty if no control ran at the largest budget."""
    marginal: tuple[Delta, ...]
    """Largest budget against the next smaller one."""
    control_against_base: tuple[Delta, ...]


def describe(findings: Sequence[ArmFindings], config: CompareConfig, labels: Mapping[str, str]) -> str:
    """Describe the findings, one sentence per model and arm.

    Args:
        findings: One per model and domain arm.
        config: The `compare` section; `forgetting_tolerance` decides what is called forgetting.
        labels: Exam task to its display label.
    """
    if not findings:
        return "Only base models were scored, so there is nothing to compare yet."
    return " ".join(_describe_arm(finding, config, labels) for finding in findings)


def headline(findings: Sequence[ArmFindings], config: CompareConfig) -> str:
    """The verdict in brief: gain, gain over the control, general text, whether to train on; `describe` has the intervals."""
    if not findings:
        return "Only base models were scored."
    return " ".join(_headline_of_arm(finding, config) for finding in findings)


def notes(findings: Sequence[ArmFindings], evals: Sequence[EvalRecord], *, not_annealed: int) -> tuple[str, ...]:
    """The caveats that go with the verdict, one sentence each; `not_annealed` is the number of scores that are not budgets."""
    lines: list[str] = []
    seeds = [len(finding.largest.scored) for finding in findings]
    if 1 in seeds:
        lines.append(
            "One seed: intervals cover the evaluation items only, not training randomness; another seed may move the result "
            "by more than they suggest."
        )
    if max(seeds, default=1) > 1:
        lines.append(f"With {max(seeds)} seeds the spread between seeds is itself a rough estimate.")
    for finding in findings:
        lines += _control_notes(finding)
    few = {
        score.source: score.documents for record in evals for score in reported_sets(record) if score.documents < _FEW_DOCUMENTS
    }
    lines += [f"{name} has {count} scored documents: intervals from so few are too narrow." for name, count in few.items()]
    lines += _chance_notes(evals)
    if not_annealed:
        lines.append(f"{not_annealed} scores are of checkpoints whose learning rate has not decayed: plotted, never compared.")
    return tuple(dict.fromkeys(lines))


def _headline_of_arm(finding: ArmFindings, config: CompareConfig) -> str:
    cell = finding.largest
    clauses = []
    for delta in _of_role(finding.against_base, "domain")[:1]:
        size = f"{abs(delta.difference):.3f} bits per byte on held-out {delta.set_name} ({delta.relative_percent:+.1f} %)"
        words = {True: f"bought {size}", None: f"bought nothing measurable on held-out {delta.set_name}", False: f"cost {size}"}
        clauses.append(words[delta.better])
    for delta in _of_role(finding.against_control, "domain")[:1]:
        size = f"{abs(delta.difference):.3f}"
        words = {
            True: f"{size} more than the same number of tokens of general text",
            None: "not measurably more than the same number of tokens of general text",
            False: f"{size} less than the same number of tokens of general text",
        }
        clauses.append(words[delta.better])
    clauses += _worst_general(finding)
    forgets = _forgetting(finding, config.forgetting_tolerance)[1]
    clauses.append(_going_on(finding, forgets=forgets)[-1])
    return f"{format_count(cell.budget_tokens or 0)} tokens of {cell.arm} text on {cell.model} {'; '.join(clauses)}."


def _worst_general(finding: ArmFindings) -> list[str]:
    """The clause on the general text that did worst against the base or the control; if there is only one, on that one.

    Probes stand for general text where there are any.
    """
    role = "probe" if _of_role(finding.against_base, "probe") else "general"
    base, control = (_of_role(deltas, role) for deltas in (finding.against_base, finding.against_control))
    if not base:
        return []
    name = max([*base, *control], key=lambda delta: delta.loss_rank).set_name
    several = len({delta.set_name for delta in base}) > 1
    kind = "probe" if role == "probe" else "general text"
    clause = f"{name}, the {kind} that did worst," if several else name
    for delta in base:
        if delta.set_name == name:
            size = f"{abs(delta.difference):.3f} ({delta.relative_percent:+.1f} %)"
            words = {True: f"improved by {size}", None: "did not measurably change", False: f"got worse by {size}"}
            clause += f" {words[delta.better]}"
    for delta in control:
        if delta.set_name == name and delta.better is False:
            clause += f", which is {delta.difference:.3f} behind the same number of tokens of general text"
    return [clause]


def _describe_arm(finding: ArmFindings, config: CompareConfig, labels: Mapping[str, str]) -> str:
    cell = finding.largest
    forgetting, forgets = _forgetting(finding, config.forgetting_tolerance)
    clauses = [*_gain(finding), *forgetting]
    for delta in _of_role(finding.against_base, "exam"):
        if delta.measure == "accuracy_points":
            clauses.append(f"{labels.get(delta.set_name, delta.set_name)}: accuracy {_change(delta)} against the base")
    clauses += _going_on(finding, forgets=forgets)
    return f"{format_count(cell.budget_tokens or 0)} tokens of {cell.arm} on {cell.model}: {'; '.join(clauses)}."


def _gain(finding: ArmFindings) -> list[str]:
    clauses = []
    gains = _of_role(finding.against_base, "domain")
    if not gains:
        return ["no domain text was held out, so the gain is unknown"]
    for delta in gains:
        clause = f"bits per byte on {delta.set_name} {_change(delta)} against the base"
        clauses.append(clause if delta.better is not False else f"{clause}, so the model got worse on its own domain")
    controls = _of_role(finding.against_control, "domain")
    for delta in controls:
        clause = f"on {delta.set_name} it {_change(delta)} against the equal-token control {delta.reference}"
        if delta.better is None:
            clause += ", so nothing shows that the domain text did more than additional training alone"
        elif delta.better is False:
            clause += ", so the same number of tokens of the control's text did more for the domain"
        clauses.append(clause)
    if not controls:
        clauses.append("without an equal-token control, the effects of domain text and of more training are confounded")
    return clauses


def _forgetting(finding: ArmFindings, tolerance: float) -> tuple[list[str], bool]:
    """The clauses on general text, and whether any says that the tolerance is exceeded."""
    clauses, forgets = [], False
    base = [*_of_role(finding.against_base, "probe"), *_of_role(finding.against_base, "general")]
    if not base:
        return ["no general text and no probe was held out, so forgetting is unknown"], False
    for delta in [*base, *_of_role(finding.against_control, "general")]:
        to = "the base" if delta in base else f"the equal-token control {delta.reference}"
        kind = "general text" if delta.role == "general" else "text that it does not train on"
        clause = f"{kind} ({delta.set_name}) {_change(delta)} against {to}"
        if delta.better is False and delta.difference > tolerance:
            forgets = True
            clause += f", more than the tolerance of {tolerance:g}: this is forgetting"
        elif delta.better is False:
            clause += f", within the tolerance of {tolerance:g}"
        elif delta.better is None and delta.interval.high > tolerance:
            clause += f", though a loss above the tolerance of {tolerance:g} is not ruled out"
        clauses.append(clause)
    return clauses, forgets


def _going_on(finding: ArmFindings, *, forgets: bool) -> list[str]:
    marginal = _of_role(finding.marginal, "domain")
    if finding.previous is None or not marginal:
        return ["with only one budget, it is unknown whether more tokens would help"]
    last = format_count((finding.largest.budget_tokens or 0) - (finding.previous.budget_tokens or 0))
    clauses = []
    for delta in marginal:
        low, high = _bounds(delta, flip=True)
        interval = f"({_level(delta)} interval {low} to {high})"
        if delta.better is True:
            clauses.append(
                f"the last {last} tokens bought {-delta.difference:.4f} bits per byte on {delta.set_name} {interval}"
            )
        elif delta.better is None:
            clauses.append(
                f"the last {last} tokens bought nothing measurable on {delta.set_name}: "
                f"{-delta.difference:.4f} bits per byte {interval}"
            )
        else:
            low, high = _bounds(delta)
            clauses.append(
                f"the last {last} tokens cost {delta.difference:.4f} bits per byte on {delta.set_name} "
                f"({_level(delta)} interval {low} to {high})"
            )
    helped = any(delta.better is True for delta in marginal) and all(delta.better is not False for delta in marginal)
    if helped and not forgets:
        decision = "more training is indicated"
    elif helped:
        decision = "more tokens still help the domain, but reduce forgetting first: raise the replay share"
    else:
        decision = "more training is not indicated"
    return [*clauses, decision]


def _control_notes(finding: ArmFindings) -> list[str]:
    arm = f"{finding.largest.arm} on {finding.largest.model}"
    if not finding.control_against_base:
        return [
            f"{arm} has no equal-token control at its largest budget: a gain may come from additional training alone, and "
            "forgetting may be understated."
        ]
    return [
        f"The equal-token control {delta.subject} alone: bits per byte on {delta.set_name} {_change(delta)} against the base."
        for delta in finding.control_against_base
        if delta.measure == "bits_per_byte"
    ]


def _chance_notes(evals: Sequence[EvalRecord]) -> list[str]:
    lines = []
    for record in evals:
        for exam in record.exams if record.arm is None else ():
            if exam.chance > 0 and abs(exam.accuracy - exam.chance) <= 2 * exam.accuracy_stderr:
                lines.append(
                    f"{exam.label}: the base {record.run} scores {100 * exam.accuracy:.1f} % over {exam.items} items, within "
                    f"two standard errors of chance ({100 * exam.chance:.1f} %), so a change there means little."
                )
    return lines


def _of_role(deltas: Sequence[Delta], role: str) -> list[Delta]:
    return [delta for delta in deltas if delta.role == role]


def _change(delta: Delta) -> str:
    """What happened, with figures: `fell by ...`, `rose by ...`, or `did not measurably change (...)`."""
    unit = " points" if delta.role == "exam" else ""
    if delta.better is None:
        low, high = _bounds(delta)
        figures = f"{delta.difference:+{_digits(delta)}}{unit}, {_level(delta)} interval {low} to {high}"
        return f"did not measurably change ({figures})"
    fell = delta.difference < 0
    low, high = _bounds(delta, flip=fell)
    return (
        f"{'fell' if fell else 'rose'} by {abs(delta.difference):{_digits(delta)}}{unit} "
        f"({_level(delta)} interval {low} to {high}, {delta.relative_percent:+.1f} % relative)"
    )


def _bounds(delta: Delta, *, flip: bool = False) -> tuple[str, str]:
    low, high = (-delta.interval.high, -delta.interval.low) if flip else (delta.interval.low, delta.interval.high)
    return f"{low:{_digits(delta)}}", f"{high:{_digits(delta)}}"


def _digits(delta: Delta) -> str:
    return ".1f" if delta.role == "exam" else ".4f"


def _level(delta: Delta) -> str:
    return f"{100 * delta.interval.confidence:g} %"
