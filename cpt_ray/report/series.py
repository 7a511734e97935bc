"""Turn records into what `figures` draws: series with a color, a dash and a marker.

Guarantee: a run looks the same in every figure and legend. Colors are those of Okabe and Ito (2008), distinguishable with any
color vision; dashes and markers repeat the distinction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cpt_ray.records import Delta, Point, RunRecord, StepMetrics
from cpt_ray.report.contents import ReportContents

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK = "#1a1a1a"
CONTROL = "#595959"
DASHES = ((), (6.0, 2.0), (2.0, 1.5), (8.0, 2.0, 2.0, 2.0))
MARKERS = ("o", "^", "D", "v", "P", "X")
MERGED = "*"
"""Marker of models made without training."""
MOST_POINTS = 500


@dataclass(frozen=True, slots=True)
class Style:
    """How a series looks."""

    color: str
    dash: tuple[float, ...] = ()
    marker: str = "o"
    width: float = 1.6


@dataclass(frozen=True, slots=True)
class Line:
    """A run's metrics, thinned: x in tokens, loss in nats per token."""

    label: str
    style: Style
    tokens: tuple[float, ...]
    loss: tuple[float, ...]
    smooth: tuple[float, ...]
    """Centered running mean of `loss`; the same as `loss` if there are few points."""
    learning_rate: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WatchedLine:
    """Held-out loss of a run during training, on one set: always dashed, never a score."""

    label: str
    style: Style
    tokens: tuple[int, ...]
    bits_per_byte: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One token-scaling curve: the annealed points of a model and arm, starting at the base, and its hollow points."""

    label: str
    style: Style
    annealed: tuple[Point, ...]
    hollow: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Trade:
    """One model in the gain-against-forgetting figure; on both axes, positive is better than the base."""

    label: str
    style: Style
    gain: tuple[float, float, float]
    """Domain: value, low, high."""
    general: tuple[float, float, float]
    made_of: str = ""
    """Of a merge: the model that it was made of; empty for that model itself."""
    weight: float | None = None
    """Of an interpolation: its share of that model."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """A base, the interpolations between it and a model, and that model, in this order: (domain gain, general gain)."""

    style: Style
    points: tuple[tuple[float, float], ...]


def run_styles(contents: ReportContents) -> dict[str, Style]:
    """A style for each run: colors first, then dashes; control arms are gray; a merge has its run's color and a star."""
    styles: dict[str, Style] = {}
    domain = control = 0
    for run in contents.runs:
        if run.kind in ("base", "trajectory"):
            continue
        if run.merge is not None:
            styles[run.run] = replace(styles.get(run.merge.made_of, Style(INK)), marker=MERGED)
        elif contents.role_of(run.run) == "control":
            styles[run.run] = Style(CONTROL, DASHES[1 + control % 3], "s")
            control += 1
        else:
            styles[run.run] = Style(
                OKABE_ITO[domain % len(OKABE_ITO)],
                DASHES[domain // len(OKABE_ITO) % len(DASHES)],
                MARKERS[domain % len(MARKERS)],
                1.1 if run.kind == "trunk" else 1.8,
            )
            domain += 1
    return styles


def lineage(metrics: Iterable[StepMetrics]) -> list[StepMetrics]:
    """The steps that led to the final weights: if a step ran twice, the later attempt; skipped steps are left out.

    A skipped step's loss may not be finite, and its tokens do not count as seen.
    """
    last: dict[int, StepMetrics] = {}
    for item in sorted(metrics, key=lambda m: m.attempt):
        last[item.step] = item
    return [last[step] for step in sorted(last) if not last[step].skipped]


def loss_lines(contents: ReportContents) -> list[Line]:
    """The loss of every run that has metrics, in run order."""
    styles = run_styles(contents)
    lines = []
    for run in contents.runs:
        steps = lineage(contents.metrics.get(run.run, ()))
        if steps and run.run in styles:
            lines.append(_line(run, steps, styles[run.run]))
    return lines


def watched_lines(contents: ReportContents) -> dict[tuple[str, str], list[WatchedLine]]:
    """Held-out losses during training, by (set, role), domain first; in run order."""
    panels: dict[tuple[str, str], list[WatchedLine]] = {}
    styles = run_styles(contents)
    for run in contents.runs:
        of_run: dict[tuple[str, str], dict[int, float]] = {}
        for point in contents.watched.get(run.run, ()) if run.run in styles else ():
            # The base is scored again if a run starts over; the later line wins.
            of_run.setdefault((point.source, str(point.role)), {})[point.tokens_seen] = point.bits_per_byte
        for place, values in of_run.items():
            style = replace(styles[run.run], dash=styles[run.run].dash or DASHES[1])
            tokens = tuple(sorted(values))
            line = WatchedLine(f"{run.run}, during training", style, tokens, tuple(values[t] for t in tokens))
            panels.setdefault(place, []).append(line)
    return dict(sorted(panels.items(), key=lambda item: item[0][1] != "domain"))


def thinned_by(contents: ReportContents) -> int:
    """The largest number of steps averaged into one drawn point."""
    longest = max((len(lineage(steps)) for steps in contents.metrics.values()), default=0)
    return max(1, math.ceil(longest / MOST_POINTS))


def _line(run: RunRecord, steps: Sequence[StepMetrics], style: Style) -> Line:
    size = max(1, math.ceil(len(steps) / MOST_POINTS))
    bins = [steps[i : i + size] for i in range(0, len(steps), size)]
    loss = tuple(sum(m.loss for m in b) / len(b) for b in bins)
    return Line(
        label=f"{run.run} ({run.kind})",
        style=style,
        tokens=tuple(b[-1].tokens_seen for b in bins),
        loss=loss,
        smooth=_running_mean(loss),
        learning_rate=tuple(b[-1].learning_rate for b in bins),
    )


def _running_mean(values: tuple[float, ...]) -> tuple[float, ...]:
    # The window shrinks at the ends, so that curves are neither shifted nor cut.
    half = len(values) // 60
    windows = (
        values[max(0, i - min(half, i, len(values) - 1 - i)) : i + min(half, i, len(values) - 1 - i) + 1]
        for i in range(len(values))
    )
    return tuple(sum(w) / len(w) for w in windows)


def sets_of(points: Sequence[Point]) -> list[tuple[str, str]]:
    """(set, role) in order of appearance, domain first."""
    seen = dict.fromkeys((p.set_name, str(p.role)) for p in points)
    return sorted(seen, key=lambda item: item[1] != "domain")


def curves(contents: ReportContents, set_name: str) -> list[Curve]:
    """The curves of one held-out set: one per model and arm, each starting at its base; merges are on none."""
    points = [p for p in contents.comparison.points if p.set_name == set_name and not p.merged]
    keys = list(dict.fromkeys((p.model, p.arm) for p in points if p.arm is not None))
    several = len({model for model, _ in keys}) > 1
    result, domain = [], 0
    for model, arm in keys:
        own = sorted((p for p in points if (p.model, p.arm) == (model, arm)), key=lambda p: p.tokens_seen)
        base = [p for p in points if p.model == model and p.arm is None]
        config = contents.arms.get(arm or "")
        if config is not None and config.role == "control":
            style = Style(CONTROL, DASHES[1], "s")
        else:
            style, domain = Style(OKABE_ITO[domain % 7], (), MARKERS[domain % len(MARKERS)]), domain + 1
        result.append(
            Curve(
                label=f"{model}, arm {arm}" if several else f"arm {arm}",
                style=style,
                annealed=(*base, *(p for p in own if p.annealed)),
                hollow=tuple(p for p in own if not p.annealed),
            )
        )
    return result


def means(points: Sequence[Point]) -> list[tuple[int, float]]:
    """Mean bits per byte over seeds at each number of tokens."""
    groups: dict[int, list[float]] = {}
    for point in points:
        groups.setdefault(point.tokens_seen, []).append(point.bits_per_byte)
    return [(tokens, sum(values) / len(values)) for tokens, values in sorted(groups.items())]


def wants_log(tokens: Iterable[int]) -> bool:
    """Whether budgets call for a log axis: at least three that span more than a factor of 8."""
    budgets = sorted({t for t in tokens if t > 0})
    return len(budgets) >= 3 and budgets[-1] / budgets[0] > 8


def trades(contents: ReportContents) -> dict[tuple[str, str], list[Trade]]:
    """Domain gain and change on general text and probes against the base, by (domain set, general set or probe)."""
    rows = [d for d in contents.comparison.deltas if d.measure == "bits_per_byte" and contents.role_of(d.reference) == "base"]
    styles = run_styles(contents)
    pairs: dict[tuple[str, str], list[Trade]] = {}
    general: Mapping[str, list[Delta]] = {d.subject: [] for d in rows}
    for row in rows:
        if row.role in ("general", "probe"):
            general[row.subject].append(row)
    for row in (r for r in rows if r.role == "domain"):
        for other in general[row.subject]:
            run = contents.find_run(row.subject)
            style = styles.get(run.run if run else "", Style(OKABE_ITO[0]))
            made_of, weight = _origin(row.subject, run)
            trade = Trade(row.subject, style, _improvement(row), _improvement(other), made_of, weight)
            pairs.setdefault((row.set_name, other.set_name), []).append(trade)
    return pairs


def _origin(subject: str, run: RunRecord | None) -> tuple[str, float | None]:
    """Of a merge, or of a cell of merges, the model or cell that it was made of, and its weight if it is an interpolation."""
    if run is None or run.merge is None:
        return "", None
    single = subject == run.run
    cell = subject.replace(run.cell, run.cell.removesuffix(run.merge.suffix), 1)
    return run.merge.made_of if single else cell, run.merge.weight


def frontiers(items: Sequence[Trade]) -> list[Frontier]:
    """The line from the base through the interpolations of each model to the model itself."""
    lines = []
    for end in (item for item in items if not item.made_of):
        between = [item for item in items if item.made_of == end.label and item.weight is not None]
        if between:
            ordered = [*sorted(between, key=lambda item: item.weight or 0.0), end]
            lines.append(Frontier(end.style, ((0.0, 0.0), *((item.gain[0], item.general[0]) for item in ordered))))
    return lines


def _improvement(delta: Delta) -> tuple[float, float, float]:
    """The difference with its interval, of no width where there is none, turned so that a gain is positive."""
    low, high = (delta.interval.low, delta.interval.high) if delta.interval else (delta.difference, delta.difference)
    return (-delta.difference, -high, -low)
