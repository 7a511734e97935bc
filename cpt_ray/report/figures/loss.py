"""Loss curves: training loss of all budgets on one axis, the learning rate below, and held-out losses during training.

In: step metrics and held-out points. Out: figures of one panel per model, or per held-out set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cpt_ray.records import RunRecord, StepMetrics
from cpt_ray.report.blocks import Figure, LegendEntry, Style, Table
from cpt_ray.report.figures.scales import Axis
from cpt_ray.report.figures.styles import DASHES, group_styles, run_style
from cpt_ray.report.figures.svg import Dot, Panel, Series, draw
from cpt_ray.report.index import Index
from cpt_ray.report.wording import count, number, rate

MOST_POINTS = 300
"""Of a drawn line; longer runs are averaged."""
MOST_LINES = 12
_TITLED, _ROWS = 60, 20
"""Points of a line that can be hovered, and that are in the figure's table."""


@dataclass(frozen=True, slots=True)
class Line:
    """A run's metrics, thinned: loss in nats per token; `smooth` is its centered running mean."""

    run: RunRecord
    tokens: tuple[int, ...]
    loss: tuple[float, ...]
    smooth: tuple[float, ...]
    learning_rate: tuple[float, ...]


def lineage(metrics: Iterable[StepMetrics]) -> list[StepMetrics]:
    """The steps that led to the final weights: if a step ran twice, the later attempt; skipped steps are left out.

    A skipped step's loss may not be finite, and its tokens do not count as seen.
    """
    last: dict[int, StepMetrics] = {}
    for item in sorted(metrics, key=lambda m: m.attempt):
        last[item.step] = item
    return [last[step] for step in sorted(last) if not last[step].skipped]


def loss_lines(index: Index) -> tuple[list[Line], str]:
    """The lines of the drawn models and arms, and a sentence on those that are not drawn."""
    runs, said = _drawn_runs(index, index.contents.metrics)
    lines = [line for run in runs if (line := thin(run, lineage(index.contents.metrics[run.run]))) is not None]
    return lines, said


def loss_figure(index: Index) -> Figure | None:
    """Loss of all budgets over tokens; None if no run has metrics."""
    lines, said = loss_lines(index)
    if not lines:
        return None
    styles, panels = _styles(index, [line.run for line in lines]), []
    tokens = Axis("tokens seen (loss-bearing)", zero=True, room=0.02)
    models = list(dict.fromkeys(line.run.model for line in lines))
    for model in models:
        series = [one for line in lines if line.run.model == model for one in _series(index, line, styles[line.run.run])]
        title = "training loss" + (f", {model}" if len(models) > 1 else "")
        loss = Axis("nats per token", show=lambda value: number(value, 2))
        panels.append(draw(Panel(title, tokens, loss, tuple(series))))
    rates = [one for line in lines if line.run.model == models[0] for one in _rates(index, line, styles[line.run.run])]
    title = "learning rate" + (f", {models[0]}" if len(models) > 1 else "")
    panels.append(draw(Panel(title, tokens, Axis("per step", show=_rate, zero=True), tuple(rates))))
    longest = max((len(lineage(index.contents.metrics[line.run.run])) for line in lines), default=0)
    size = math.ceil(longest / MOST_POINTS)
    caption = "Nats per loss-bearing token of the global batch; arms differ in their text, so their losses are not comparable. "
    caption += f"Each point is the mean of up to {size} steps. " if size > 1 else "Each point is one optimizer step. "
    caption += "Pale: the points; strong: their running mean." if any(line.smooth != line.loss for line in lines) else ""
    legend = _legend([line.run for line in lines], styles)
    return Figure(
        "loss",
        "Training loss and learning rate over tokens seen",
        caption.strip(),
        tuple(panels),
        legend,
        _table(index, lines),
        said,
    )


def watched_figure(index: Index) -> Figure | None:
    """Held-out loss during training, one panel per set; None if no run was watched."""
    runs, said = _drawn_runs(index, index.contents.watched)
    places: dict[tuple[str, str], list[tuple[RunRecord, dict[int, float]]]] = {}
    for run in runs:
        of_run: dict[tuple[str, str], dict[int, float]] = {}
        for point in index.contents.watched[run.run]:
            # The base is scored again if a run starts over; the later line wins.
            of_run.setdefault((point.source, str(point.role)), {})[point.tokens_seen] = point.bits_per_byte
        for place, values in of_run.items():
            places.setdefault(place, []).append((run, values))
    if not places:
        return None
    styles, panels, rows = _watched_styles(index, runs), [], []
    for (source, role), lines in sorted(places.items(), key=lambda item: item[0][1] != "domain"):
        series = []
        for run, values in lines:
            dots = tuple(
                Dot(
                    tokens,
                    value,
                    f"{index.name(run.run)}: {number(value)} at {count(tokens)} tokens, during training",
                    hollow=True,
                )
                for tokens, value in sorted(values.items())
            )
            series.append(Series(styles[run.run], dots))
            rows += [(index.name(run.run), source, tokens, value) for tokens, value in sorted(values.items())]
        bits = Axis("bits per byte (validation half)", show=number)
        panels.append(
            draw(Panel(f"{role}: {source}, during training", Axis("tokens seen", zero=True, room=0.03), bits, tuple(series)))
        )
    caption = (
        "The weights during training, on the first window of a few validation documents per source. Not annealed, never a "
        "budget, not a score."
    )
    legend = tuple(LegendEntry(f"{index.name(run.run)}, during training", styles[run.run], hollow=True) for run in runs)
    table = Table.of("figure_watched", "", ("run", "set", "tokens seen", "bits per byte"), rows, words=2)
    alt = "Held-out bits per byte of each run during training, over tokens seen"
    return Figure("watched", alt, caption, tuple(panels), legend, table, said, "Held-out loss during training")


def thin(run: RunRecord, steps: Sequence[StepMetrics]) -> Line | None:
    """A run's metrics as a line of at most `MOST_POINTS` points, each the mean of as many steps; None without steps."""
    if not steps:
        return None
    size = max(1, math.ceil(len(steps) / MOST_POINTS))
    bins = [steps[i : i + size] for i in range(0, len(steps), size)]
    loss = tuple(sum(m.loss for m in b) / len(b) for b in bins)
    return Line(
        run, tuple(b[-1].tokens_seen for b in bins), loss, _running_mean(loss), tuple(b[-1].learning_rate for b in bins)
    )  # fmt: skip


def _running_mean(values: tuple[float, ...]) -> tuple[float, ...]:
    # The window shrinks at the ends, so that curves are neither shifted nor cut.
    half = len(values) // 60
    windows = (
        values[max(0, i - min(half, i, len(values) - 1 - i)) : i + min(half, i, len(values) - 1 - i) + 1]
        for i in range(len(values))
    )
    return tuple(sum(w) / len(w) for w in windows)


def _drawn_runs(index: Index, having: Iterable[str]) -> tuple[list[RunRecord], str]:
    """Of the drawn models and arms, the runs of the first seed that have something to draw."""
    groups, _ = index.drawn()
    wanted, known = {(group.model, group.arm): place for place, group in enumerate(groups)}, set(having)
    trained = [run for run in index.contents.runs if run.run in known and run.training is not None and run.kind != "trajectory"]
    first = min((run.seed for run in trained if run.seed is not None), default=None)
    mine = [run for run in trained if (run.model, run.arm or "") in wanted and run.seed == first]
    runs = sorted(mine, key=lambda run: wanted[run.model, run.arm or ""])[:MOST_LINES]
    left = len(trained) - len(runs)
    return runs, f"Drawn: {len(runs)} of {len(trained)} runs, those of seed {first} that stand first." if left else ""


def _styles(index: Index, runs: Sequence[RunRecord]) -> dict[str, Style]:
    groups, _ = index.drawn()
    styles = group_styles(index, groups)
    budgets: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        if run.budget_tokens is not None:
            budgets.setdefault((run.model, run.arm or ""), []).append(run.budget_tokens)
    return {run.run: run_style(run, styles, sorted(set(budgets.get((run.model, run.arm or ""), [])))) for run in runs}


def _watched_styles(index: Index, runs: Sequence[RunRecord]) -> dict[str, Style]:
    """As `_styles`, for panels that show all models at once: dotted, with a marker per model where there are several."""
    groups, _ = index.drawn()
    by_group, several = group_styles(index, groups), len({run.model for run in runs}) > 1
    own = _styles(index, runs)
    marker = {run.run: by_group[run.model, run.arm or ""].marker if several else own[run.run].marker for run in runs}
    return {name: Style(style.color, style.dash or DASHES[2], marker[name]) for name, style in own.items()}


def _legend(runs: Sequence[RunRecord], styles: dict[str, Style]) -> tuple[LegendEntry, ...]:
    """One entry per style: models have panels of their own, and a trunk looks as the budget that it leads to."""
    names: dict[Style, dict[str, list[str]]] = {}
    for run in runs:
        what = count(run.budget_tokens) if run.budget_tokens else run.kind
        found = names.setdefault(styles[run.run], {}).setdefault(run.arm or "", [])
        if what not in found:
            found.append(what)
    said = {style: ", ".join(f"{arm} {' and '.join(kinds)}" for arm, kinds in arms.items()) for style, arms in names.items()}
    return tuple(LegendEntry(label, style, mark=False) for style, label in said.items())


def _series(index: Index, line: Line, style: Style) -> list[Series]:
    name = index.name(line.run.run)
    smooth = tuple(Dot(x, y) for x, y in zip(line.tokens, line.smooth, strict=True))
    pale = tuple(Dot(x, y) for x, y in zip(line.tokens, line.loss, strict=True))
    return [
        *([Series(Style(style.color), pale, mark=False, pale=True)] if line.smooth != line.loss else []),
        # A single step is a point: a line through it would be invisible.
        Series(style, smooth, mark=len(smooth) < 3),
        _hovered(line, line.smooth, style, lambda value: f"{name}: {number(value, 3)} nats per token"),
    ]


def _rates(index: Index, line: Line, style: Style) -> list[Series]:
    name = index.name(line.run.run)
    dots = tuple(Dot(x, y) for x, y in zip(line.tokens, line.learning_rate, strict=True))
    hovered = _hovered(line, line.learning_rate, style, lambda value: f"{name}: learning rate {rate(value)}")
    return [Series(style, dots, mark=False), hovered]


def _hovered(line: Line, values: Sequence[float], style: Style, words: Callable[[float], str]) -> Series:
    """The points that say their value, from the last one back; one for each would double the page."""
    step = max(1, math.ceil(len(line.tokens) / _TITLED))
    chosen = list(zip(line.tokens, values, strict=True))[::-step]
    dots = tuple(Dot(x, y, f"{words(y)} at {count(x)} tokens") for x, y in chosen)
    return Series(style, dots, line=False, mark=False)


def _table(index: Index, lines: Sequence[Line]) -> Table:
    rows = [
        (index.name(line.run.run), line.tokens[i], line.loss[i], rate(line.learning_rate[i]))
        for line in lines
        for i in sorted({round(k * (len(line.tokens) - 1) / (_ROWS - 1)) for k in range(_ROWS)})
    ]
    return Table.of("figure_loss", "", ("run", "tokens seen", "loss, nats per token", "learning rate"), rows)


def _rate(value: float) -> str:
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"
