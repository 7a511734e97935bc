"""The verdict: what the tokens bought, what they cost, whether to train on, in words that the figures support.

In: the differences of one arm's largest budget. Out: a headline and a longer sentence per model and arm, and their caveats.
The words: a *gain* is better than the base, or than the equal-token control, on the domain; *forgetting* is worse than the base
on general text, on a probe or in a general task; an *opportunity cost* is behind the control on text that the control trains
on, and is never called forgetting; *not measurable* is what `Delta.better` does not decide, with the smallest effect that the
design would have found; *not settled* is what would be measurable alone, and is not among all sets that are compared together:
more training is not advised as long as it cannot be told whether forgetting exceeds the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cpt_ray.compare.deltas import Cell
from cpt_ray.compare.judgment import within
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.config.values import format_count
from cpt_ray.records import MEASURES, Conclusion, Delta, EvalRecord, FailedScore


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
    control_draws: frozenset[str]
    """The sources that the controls train on."""


class _Advice(NamedTuple):
    """Whether to train on: in the headline, and in full."""

    brief: str
    full: str


def conclude(finding: ArmFindings, config: CompareConfig, labels: Mapping[str, str]) -> Conclusion:
    """Say what was found: gain, gain over the control, forgetting, whether to train on.

    Args:
        finding: Of a model and domain arm.
        config: The `compare` section; `forgetting_tolerance` decides what is called forgetting.
        labels: Exam task to its display label.
    """
    cell = finding.largest
    start = f"{format_count(cell.budget_tokens or 0)} tokens of {cell.arm} on {cell.model}:"
    return Conclusion(
        model=cell.model,
        arm=str(cell.arm),
        headline=f"{start} {_in_brief(finding, config)}.",
        verdict=f"{start} {_in_full(finding, config, labels)}.",
    )


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
    lines += _missing_intervals(findings)
    lines += _few_subsets(findings)
    lines += _chance_notes(evals)
    lines += _perplexity_note([record for record in evals if record.arm is None])
    if not_annealed:
        lines.append(f"{not_annealed} scores are of checkpoints whose learning rate has not decayed: plotted, never compared.")
    return tuple(dict.fromkeys(lines))


def say_failed(one: FailedScore) -> str:
    """An exam or task without a score."""
    return f"{one.task} was not scored on {one.run}, failed: {one.reason}; running the same command again tries it again."


def sentence(delta: Delta) -> str:
    """One difference between two runs, in the words of a verdict."""
    return f"{MEASURES[delta.measure].words} on {delta.set_name} {_change(delta)}"


def _perplexity_note(bases: Sequence[EvalRecord]) -> list[str]:
    """A warning where bases cut the same text into different tokens: perplexity is per token, so theirs do not compare."""
    counts: dict[tuple[str, str, int], dict[int, str]] = {}
    for record in bases:
        for score in record.held_out:
            place = (score.source, score.part, score.scored_bytes)
            counts.setdefault(place, {}).setdefault(score.scored_tokens, record.model)
    models = next((list(found.values()) for found in counts.values() if len(found) > 1), [])
    if not models:
        return []
    return [
        f"{' and '.join(models)} have different tokenizers: a perplexity is per token and does not compare between them; "
        "compare bits per byte."
    ]


def _in_brief(finding: ArmFindings, config: CompareConfig) -> str:
    gain = next(iter(_of_role(finding.against_base, "domain")), None)
    words = "domain gain unknown"
    if gain is not None:
        size = f"{abs(gain.difference):.3f} bits/byte"
        unsure = _unsure(gain, "no measurable domain gain", "domain gain not settled", "domain gain not judged")
        words = {True: f"domain gain {size}", None: unsure, False: f"domain loss {size}"}[gain.better]
    control = next(iter(_of_role(finding.against_control, "domain")), None)
    beyond = "no control"
    if control is not None:
        size = f"{abs(control.difference):.3f}"
        unsure = _unsure(control, "not measurably beyond the control", "beyond the control: not settled", "control not judged")
        beyond = {True: f"{size} beyond the control", None: unsure, False: f"{size} behind the control"}[control.better]
    forgets = _forgetting(finding, config.forgetting_tolerance)[1]
    advice = _advice(finding, _last_step(finding), forgets=forgets).brief
    gained = f"{words} ({beyond})" if gain is not None else _without_domain(finding)
    return f"{gained}, {_worst_forgetting(finding)}; {advice}"


def _without_domain(finding: ArmFindings) -> str:
    """The clause in place of a gain where no domain text was scored, as for a base that is trained from random weights."""
    bits = [delta for delta in finding.against_base if delta.measure == "bits_per_byte" and delta.better]
    best = min(bits, key=lambda delta: delta.difference, default=None)
    found = "" if best is None else f"{best.set_name} better by {-best.difference:.3f} bits/byte, "
    return f"{found}no domain text scored"


def _worst_forgetting(finding: ArmFindings) -> str:
    """The clause on the probe or general text that did worst against the base."""
    kept = [*_of_role(finding.against_base, "probe"), *_of_role(finding.against_base, "general")]
    tasks = _general_tasks(finding)
    judged = [delta for delta in kept if delta.interval is not None]
    if judged and (worst := max(judged, key=lambda delta: delta.loss_rank)).better is False:
        return f"forgetting {worst.difference:.3f} on {worst.set_name}"
    lost = [delta for delta in tasks if delta.better is False]
    if lost:
        worst = min(lost, key=lambda delta: delta.difference)
        return f"forgetting {-worst.difference:.1f} points on {worst.set_name}"
    if unsettled := [delta for delta in (*judged, *tasks) if _may_forget(delta)]:
        return f"forgetting on {min(unsettled, key=lambda delta: delta.adjusted_p_value).set_name} not settled"
    if judged or any(delta.interval is not None for delta in tasks):
        return "no measurable forgetting"
    return "forgetting not judged" if kept or tasks else "forgetting unknown"


def _unsure(delta: Delta, unmeasured: str, unsettled: str, unjudged: str) -> str:
    if delta.interval is None:
        return unjudged
    return unsettled if delta.unsettled else unmeasured


def _general_tasks(finding: ArmFindings) -> list[Delta]:
    """Differences in accuracy to the base in tasks that the study calls general."""
    exams = _of_role(finding.against_base, "exam")
    return [delta for delta in exams if delta.suite == "general" and delta.measure == "accuracy_points"]


def _in_full(finding: ArmFindings, config: CompareConfig, labels: Mapping[str, str]) -> str:
    forgetting, forgets = _forgetting(finding, config.forgetting_tolerance)
    clauses = [*_gain(finding), *forgetting]
    for delta in _of_role(finding.against_base, "exam"):
        if delta.measure == "accuracy_points":
            clause = f"{labels.get(delta.set_name, delta.set_name)}: accuracy {_change(delta)} against the base"
            clauses.append(f"{clause}: forgetting" if delta.suite == "general" and delta.better is False else clause)
    marginal = _last_step(finding)
    return "; ".join([*clauses, *_last_tokens(finding, marginal), _advice(finding, marginal, forgets=forgets).full])


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
        if delta.better is None and not delta.unjudged:
            clause += ", so nothing shows that the domain text did more than additional training alone"
        elif delta.better is False:
            clause += ", so the same number of tokens of the control's text did more for the domain"
        clauses.append(clause)
    if not controls:
        clauses.append("without an equal-token control, the effects of domain text and of more training are confounded")
    return clauses


def _forgetting(finding: ArmFindings, tolerance: float) -> tuple[list[str], bool | None]:
    """The clauses on general text, and whether forgetting exceeds the tolerance; None if that cannot be told of a loss."""
    clauses = list[str]()
    tasks = _general_tasks(finding)
    forgets = _worse(False, exceeds=any(delta.better is False for delta in tasks), unknown=any(map(_may_forget, tasks)))
    base = [*_of_role(finding.against_base, "probe"), *_of_role(finding.against_base, "general")]
    if not base:
        text = " of text" if tasks else ""
        return [f"no general text and no probe was held out, so forgetting{text} is unknown"], forgets
    for delta in base:
        kind = "general text" if delta.role == "general" else "text that it does not train on"
        clause = f"{kind} ({delta.set_name}) {_change(delta)} against the base"
        held = within(delta, tolerance)
        if delta.better is False:
            forgets = _worse(forgets, exceeds=held is False, unknown=held is None)
            words = {True: "within", False: "more than", None: "and it cannot be told whether more than"}[held]
            clause += f": forgetting, {words} the tolerance of {tolerance:g}"
        elif delta.better is None and held is not True:
            clause += f", though forgetting above the tolerance of {tolerance:g} is not ruled out"
            forgets = _worse(forgets, exceeds=False, unknown=_may_forget(delta))
        clauses.append(clause)
    for delta in _of_role(finding.against_control, "general"):
        clause = f"on {delta.set_name} it {_change(delta)} against the equal-token control {delta.reference}"
        cost = delta.better is False and delta.set_name in finding.control_draws
        clauses.append(f"{clause}: an opportunity cost, not forgetting" if cost else clause)
    return clauses, forgets


def _worse(so_far: bool | None, *, exceeds: bool, unknown: bool) -> bool | None:
    """Whether any loss exceeds what is tolerated: one that does outweighs one of which that cannot be told."""
    if so_far or exceeds:
        return True
    return None if so_far is None or unknown else False


def _may_forget(delta: Delta) -> bool:
    """Whether a loss would be measurable alone, and is not among all sets that are compared together."""
    return delta.unsettled and (delta.difference > 0) == MEASURES[delta.measure].lower_is_better


def _last_step(finding: ArmFindings) -> list[Delta]:
    """The largest budget against the next smaller one, on the domain."""
    return _of_role(finding.marginal, "domain")


def _last_tokens(finding: ArmFindings, marginal: Sequence[Delta]) -> list[str]:
    """What the tokens after the next smaller budget did."""
    if finding.previous is None or not marginal:
        return []
    last = format_count((finding.largest.budget_tokens or 0) - (finding.previous.budget_tokens or 0))
    clauses = []
    for delta in marginal:
        what = {True: f"bought {-delta.difference:.4f}", None: f"bought nothing measurable, {-delta.difference:.4f}"}
        found = what.get(delta.better, f"cost {delta.difference:.4f}")
        if delta.unsettled or delta.unjudged:
            what_not = "not settled" if delta.unsettled else "not judged"
            found = f"{'bought' if delta.difference < 0 else 'cost'}, {what_not}, {abs(delta.difference):.4f}"
        figures = _figures(delta, flip=delta.better is not False)
        clauses.append(f"the last {last} tokens {found} bits per byte on {delta.set_name} ({figures})")
    return clauses


def _advice(finding: ArmFindings, marginal: Sequence[Delta], *, forgets: bool | None) -> _Advice:
    """Whether more training is indicated, by the last tokens, the gain against the base, and forgetting."""
    if finding.previous is None:
        return _Advice("more tokens unknown", "with only one budget, it is unknown whether more tokens would help")
    if not marginal:
        why = "without held-out domain text or a common seed, it is unknown whether more tokens would help"
        return _Advice("more tokens unknown", why)
    if not any(delta.interval for delta in marginal):
        return _Advice("more training is not judged", "more training is not judged")
    helped = any(delta.better is True for delta in marginal) and all(delta.better is not False for delta in marginal)
    if not helped and any(delta.unsettled and delta.difference < 0 for delta in marginal):
        why = "whether more training helps is unclear, because what the last tokens did is not settled"
        return _Advice("more training: unclear", why)
    if not helped:
        return _Advice("more training is not indicated", "more training is not indicated")
    if not any(delta.better is True for delta in _of_role(finding.against_base, "domain")):
        # Seeds cancel in the last step, which is paired by them, and not against the base.
        why = "whether more training helps is unclear, because no gain over the base is measurable"
        return _Advice("more training: unclear", why)
    if forgets is None:
        why = "because it still helps the domain, and whether it forgets too much cannot be told"
        return _Advice("more training: unclear", f"whether more training pays is unclear, {why}")
    if forgets:
        more = "more tokens still help the domain: raise the replay share"
        return _Advice("reduce forgetting first", f"reduce forgetting first, though {more}")
    return _Advice("more training is indicated", "more training is indicated")


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


def _missing_intervals(findings: Sequence[ArmFindings]) -> list[str]:
    """Why differences have no interval, once for each set."""
    reasons: dict[str, str] = {}
    for finding in findings:
        for delta in (*finding.against_base, *finding.against_control, *finding.marginal):
            if delta.interval is None and delta.difference:
                reasons.setdefault(delta.set_name, delta.missing)
    return [f"{name}: no interval, and so no judgment: {reason}." for name, reason in reasons.items()]


def _few_subsets(findings: Sequence[ArmFindings]) -> list[str]:
    """The sets that more subsets could settle: those there are do not reach the level of all sets together."""
    unknown: dict[str, int] = {}
    for finding in findings:
        for delta in (*finding.against_base, *finding.against_control, *finding.marginal):
            if delta.unsettled and delta.smallest_effect is None and delta.interval is not None:
                judged_together = delta.adjusted_p_value / delta.p_value
                needed = math.ceil(2 * judged_together / (1 - delta.interval.confidence))
                unknown[delta.set_name] = max(needed, unknown.get(delta.set_name, 0))
    if not unknown:
        return []
    return [
        f"{', '.join(unknown)}: compare.subsets is too small to judge so many sets together: set it to {max(unknown.values())} "
        "or more."
    ]


def _change(delta: Delta) -> str:
    """What happened, with figures: `fell by ...`, `rose by ...`, or `did not measurably change (...)`."""
    fell = delta.difference < 0
    unit = "" if delta.measure == "bits_per_byte" else f" {MEASURES[delta.measure].unit}"
    if delta.unjudged:
        return f"{'fell' if fell else 'rose'} by {abs(delta.difference):{_digits(delta)}}{unit}, not judged ({_figures(delta)})"
    if delta.better is None and not delta.unsettled:
        return f"did not measurably change ({delta.difference:+{_digits(delta)}}{unit}, {_figures(delta)})"
    relative = "" if delta.relative_percent is None else f", {delta.relative_percent:+.1f} % relative"
    settled = f"; not settled, p = {delta.adjusted_p_value:.3f} among all sets compared" if delta.unsettled else ""
    return (
        f"{'fell' if fell else 'rose'} by {abs(delta.difference):{_digits(delta)}}{unit} "
        f"({_figures(delta, flip=fell)}{relative}{settled})"
    )


def _figures(delta: Delta, *, flip: bool = False) -> str:
    """The interval in words, and what a difference that is not measurable would have had to be."""
    if delta.interval is None:
        return f"no interval: {delta.missing}"
    low, high = (-delta.interval.high, -delta.interval.low) if flip else (delta.interval.low, delta.interval.high)
    digits = _digits(delta)
    text = f"{100 * delta.interval.confidence:g} % interval {low:{digits}} to {high:{digits}}"
    if delta.better is None and delta.smallest_effect is not None:
        text += f", smallest measurable difference {delta.smallest_effect:{digits}}"
    return text


def _digits(delta: Delta) -> str:
    return ".4f" if delta.measure == "bits_per_byte" else f".{MEASURES[delta.measure].decimals}f"
