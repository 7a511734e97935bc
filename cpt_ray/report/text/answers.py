"""What more tokens would buy, as tables of words: fits, forecasts, efficiency ratios, shares, ways to spend compute.

In: `Answers`. Out: `AnswerTable`s, which the page and the terminal both show. Guarantee: a number stands with its interval;
what is missing stands with its reason, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cpt_ray.compare.efficiency import CENSORED, DEFINITION
from cpt_ray.config.values import format_count
from cpt_ray.records import Answers, EfficiencyRatio, Estimated, Fit, Forecast, Money, RatioTrend, ShareAnswer, Spending
from cpt_ray.report.text.table import text_table
from cpt_ray.report.wording import number, scientific, share, signed

_DAGGER = " \N{DAGGER}"
_ONE_SEED = "One seed: how far another seed would move this is not part of its interval; a second one would say."


_PREDICTED = ("predicted bits per byte", "against more tokens")
_PRICED = "Prices are of training so many tokens from the base, more than what it takes to go on from a trunk:"


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """A table of words.

    Attributes:
        title: Heading.
        answer: The answer in a sentence; empty if the table is the answer.
        header: Column names; the first `text_columns` are words, the others numbers.
        rows: Cells; empty if there is nothing to list.
        notes: What goes with it.
        text_columns: Number of columns of words.
    """

    title: str
    answer: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    text_columns: int = 1


def answer_tables(answers: Answers) -> list[AnswerTable]:
    """All tables that a study has something to say in, decisions first."""
    tables = [
        *_spendings(answers, one_seed=any(one.seeds == 1 for one in answers.forecasts)),
        _forecasts(answers),
        _shares(answers.shares),
        _ratios(answers.ratios, answers.trends),
        _fits([one for one in answers.fits if not one.refused]),
    ]
    return [table for table in tables if table is not None]


def refusals(answers: Answers) -> list[str]:
    """Why curves were not fitted: each reason once, with what it is said of."""
    by_reason: dict[str, list[str]] = {}
    for one in answers.fits:
        if one.refused:
            by_reason.setdefault(one.refused, []).append(one.subject)
    said = [f"Not fitted: {'; '.join(subjects)}: {reason}." for reason, subjects in by_reason.items()]
    return [*said, answers.unfitted] if answers.unfitted else said


def render_answers(answers: Answers) -> str:
    """What the terminal prints: forecasts, ratios and the answers on spending, not the fits."""
    lines: list[str] = []
    for table in (_forecasts(answers), _ratios(answers.ratios, answers.trends)):
        if table is not None:
            lines += ["", table.title, text_table(table.header, table.rows, text_columns=table.text_columns, rule=True)]
            lines += table.notes
    lines += [f"{_heading(one)}: {one.answer}" for one in answers.spendings]
    lines += [f"Domain share, {one.model} on {one.set_name}: {one.answer} {one.fitted}".rstrip() for one in answers.shares]
    lines += refusals(answers)
    return "\n".join(lines)


def interval(found: Estimated | None, digits: int = 3, *, with_sign: bool = False) -> str:
    """A value and its interval; an open end in words."""
    if found is None:
        return number(None)
    show = signed if with_sign else number
    if found.low is None and found.high is None:
        return "not determined"
    if found.low is None or found.high is None:
        end, words = (found.high, "at most") if found.low is None else (found.low, "at least")
        return f"{words} {show(end, digits)}"
    return f"{show(found.value, digits)} ({show(found.low, digits)} to {show(found.high, digits)})"


def _forecasts(answers: Answers) -> AnswerTable | None:
    known = [one for one in answers.forecasts if one.change is not None]
    if not known:
        return None
    priced = any(one.price for one in known)
    rows = tuple(
        (
            f"{one.model}, arm {one.arm}",
            f"{one.set_name} ({one.role})",
            format_count(round(one.tokens)),
            interval(one.change, with_sign=True),
            *([_money(one.price)] if priced else []),
            _predicted(one),
        )
        for one in known
    )
    return AnswerTable(
        "Predicted at the next budget",
        "",
        ("model", "set", "tokens", "bits per byte against the base", *(["price"] if priced else []), "prediction"),
        rows,
        (
            "By the curves in tokens; the mean over seeds of a run like these, if the curve keeps its form. Never surer than "
            "the difference that was measured at the largest budget.",
            *([f"{_PRICED} {answers.priced}."] if priced else []),
            *([_ONE_SEED] if any(one.seeds == 1 for one in known) else []),
        ),
        text_columns=2,
    )


def _money(found: Money | None) -> str:
    return number(None) if found is None else f"{found.amount:.2f} {found.currency}"


def _predicted(found: Forecast) -> str:
    """The judgment in words."""
    if found.better is None:
        return f"cannot be told: {found.unsure}"
    return "better than the base" if found.better else "worse than the base"


def _heading(one: Spending) -> str:
    return f"{one.factor:g} times the FLOPs of the largest run ({scientific(one.flops)}), for {one.set_name}"


def _spendings(answers: Answers, *, one_seed: bool) -> list[AnswerTable]:
    money = "so about the same money on the same hardware."
    if answers.priced:
        money = f"the prices are at {answers.priced}."
    return [
        AnswerTable(
            _heading(one),
            one.answer,
            (*("spent on", "model and arm", "tokens"), *(["price"] if answers.priced else []), *_PREDICTED),
            tuple(
                (
                    option.kind,
                    f"{option.model}, arm {option.arm}" if option.model else option.missing,
                    format_count(round(option.tokens)) if option.tokens else number(None),
                    *([_money(option.price)] if answers.priced else []),
                    interval(option.loss) if option.loss else (option.missing if option.model else number(None)),
                    interval(option.against, with_sign=True) if option.against else number(None),
                )
                for option in one.options
            ),
            (
                f"Below 0 is better than more tokens. All spend the same FLOPs, {money}",
                *([_ONE_SEED] if one_seed else []),
            ),
            text_columns=2,
        )
        for one in answers.spendings
    ]


def _shares(found: Sequence[ShareAnswer]) -> AnswerTable | None:
    """A row per model and arm, a column per set that is not of the domain."""
    if not found:
        return None
    words = {True: "within", False: "exceeds", None: "unclear"}
    sets = list(dict.fromkeys(one.set_name for one in found))
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for one in found:
        for row in one.rows:
            place = (f"{one.model}, arm {row.arm}", format_count(one.budget_tokens), share(row.share, 0))
            change = interval(row.change, with_sign=True)
            cells.setdefault(place, {})[one.set_name] = f"{words[row.within]}: {change}" if row.change else words[None]
    several = len(found) > 1
    return AnswerTable(
        f"Domain share that keeps within the tolerance of {found[0].tolerance:g}",
        "" if several else found[0].answer,
        ("model and arm", "tokens", "domain share", *sets),
        tuple((*place, *(row.get(name, number(None)) for name in sets)) for place, row in cells.items()),
        (
            *(f"{one.model} on {one.set_name}: {one.fitted}" for one in found if one.fitted),
            "Bits per byte against the base, and whether that is within compare.forgetting_tolerance.",
        ),
    )


def _ratios(ratios: Sequence[EfficiencyRatio], trends: Sequence[RatioTrend]) -> AnswerTable | None:
    if not ratios:
        return None
    rows = tuple(
        (
            f"{one.model}, arm {one.arm}",
            f"{one.target}{_DAGGER * one.censored} on {one.set_name}",
            one.basis,
            number(one.target_loss),
            _ratio(one),
        )
        for one in ratios
    )
    notes = [DEFINITION]
    for trend in trends:
        what = f"Over {trend.sizes} sizes the measured ratio of arm {trend.arm} on {trend.set_name} goes with parameters to the"
        notes.append(
            f"{what} power {interval(trend.exponent)}." if trend.exponent else f"No trend over sizes: {trend.missing}."
        )
    notes += [CENSORED] if any(one.censored for one in ratios) else []
    header = ("model", "loss to reach", "basis", "bits per byte", "FLOPs of the control over those of the arm")
    return AnswerTable("Efficiency of domain text", "", header, rows, tuple(notes), text_columns=3)


def _ratio(found: EfficiencyRatio) -> str:
    if found.bound:
        return f"{found.bound} {number(found.bound_value, 2)}"
    return interval(found.ratio, 2) if found.ratio else found.missing


def _fits(fits: Sequence[Fit]) -> AnswerTable | None:
    if not fits:
        return None
    rows = tuple(
        (
            f"{one.subject}, by {one.kind}",
            one.formula,
            "; ".join(f"{found.name} {_parameter(found)}" for found in one.parameters),
            f"{one.points} points, {one.scores} scores, {one.seeds} seed{'s' * (one.seeds > 1)}",
            f"{one.degrees_of_freedom}",
            f"{number(one.residual_percent, 2)} %",
            _left_out(one),
            "; ".join(one.warnings),
        )
        for one in fits
    )
    header = (
        "curve",
        "form",
        "parameters",
        "fitted to",
        "degrees of freedom",
        "residuals",
        "left out and predicted",
        "warnings",
    )
    notes = (
        "Bits per byte; x in tokens, FLOPs or parameters. Intervals are over documents and seeds; residuals are the root mean "
        "square of measured over fitted loss. Left out: each point predicted from the others, the largest error and the last.",
    )
    return AnswerTable("Fitted curves", "", header, rows, notes, text_columns=3)


def _parameter(found: Estimated) -> str:
    if found.name != "x0":
        return interval(found)
    if found.low is None or found.high is None:
        return "not determined"
    return f"{format_count(round(found.value))} ({format_count(round(found.low))} to {format_count(round(found.high))})"


def _left_out(found: Fit) -> str:
    if not found.left_out:
        return number(None)
    errors = [one.predicted - one.measured for one in found.left_out]
    return f"{number(max(map(abs, errors)))} at most, {signed(errors[-1])} for the last"
