"""A study's status as lines for a terminal or a log; pure."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from cpt_ray.config.values import format_count, format_eta
from cpt_ray.records import CommandRecord, DriverStatus, RunStatus, StudyStatus

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-~=+*#"
_WIDTH = 24
_MOST_RUNS = 20
_ORDER = ("training", "waiting", "done")


def render_status(status: StudyStatus, *, plain: bool = False) -> str:
    """All that is known of a study.

    Args:
        status: What was found.
        plain: Draw with ASCII, for terminals that have nothing else.
    """
    return "\n".join([f"study {status.study}  {status.root}", *_lines(status, _PLAIN_BARS if plain else _BARS)])


def sparkline(values: Sequence[float], bars: str = _BARS, width: int = _WIDTH) -> str:
    """A line of bars from the lowest to the highest value, each the mean of its share of the values."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    count = min(width, len(known))
    cuts = [round(place * len(known) / count) for place in range(count + 1)]
    means = [sum(known[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((mean - low) * scale)] for mean in means)


def _lines(status: StudyStatus, bars: str) -> Iterator[str]:
    yield f"state: {_state(status)}"
    if status.driver is not None:
        yield f"driver: {_driver(status.driver)}"
    command = status.command
    if command is not None:
        yield f"command: {command.command}  (in {command.folder}, began {_clock(command.started)})"
    if status.state == "running" and command is not None and command.doing:
        yield f"now: {command.doing}  ({_ago(time.time() - command.doing_since)})"
    yield from _end(status, command)
    if status.verbs:
        left = f"; training left: {format_eta(status.eta_s)} at this rate" if status.eta_s is not None else ""
        yield "made: " + ", ".join(f"{one.verb} {one.done}/{one.artifacts}" for one in status.verbs) + left
    if status.report is not None:
        yield f"report: {status.report}"
    yield from _runs(status.runs, bars)
    for number, typed in enumerate(status.next):
        yield f"{'next:' if number == 0 else '  or:'} {typed}"


def _state(status: StudyStatus) -> str:
    command, said = status.command, status.state
    if status.state == "running" and command is not None:
        verb = f", {command.verb}" if command.verb else ""
        return f"running{verb}, for {format_eta(max(0.0, time.time() - command.started))}"
    if status.state == "never started":
        return "never started: nothing is there under its root; a relative one begins at the folder of the command"
    if command is not None and command.ended is not None:
        return f"{said}, {_ago(time.time() - command.ended)}"
    return said


def _driver(driver: DriverStatus) -> str:
    who = f"process {driver.pid} on {driver.host}, attempt {driver.attempt}"
    if driver.released:
        return f"{who}, has ended"
    if driver.alive:
        return f"{who}, heartbeat {_ago(driver.heartbeat_s)}"
    return f"{who}, is gone: last heartbeat {_ago(driver.heartbeat_s)}"


def _end(status: StudyStatus, command: CommandRecord | None) -> Iterator[str]:
    """How a command that is over came to its end."""
    if status.state == "died":
        yield "died: without a word, so it was killed (SIGKILL, out of memory), or its machine went away"
        if command is not None and command.doing:
            yield f"  then: {command.doing}"
        if status.last_words:
            yield f"  last line of its log: {status.last_words}"
    if command is not None and status.state == "failed":
        yield f"error: {command.error}"
        if command.fix:
            yield f"  fix: {command.fix}"


def _runs(runs: Sequence[RunStatus], bars: str) -> Iterator[str]:
    shown = sorted(runs, key=lambda run: _ORDER.index(run.state))[:_MOST_RUNS]
    rows = [_row(run, bars) for run in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for run, row in zip(shown, rows, strict=True):
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if run.state == "training":
            yield from _workers(run)
        yield from (f"      {event}" for event in run.events if run.state == "training" or len(runs) <= _MOST_RUNS)
    rest = Counter(str(run.state) for run in runs) - Counter(str(run.state) for run in shown)
    if rest:
        yield f"  and {sum(rest.values())} more: " + ", ".join(f"{rest[state]} {state}" for state in _ORDER if rest[state])


def _row(run: RunStatus, bars: str) -> list[str]:
    of = f"/{format_count(run.stop_tokens)}" if run.stop_tokens is not None else ""
    rate = f"{format_count(run.tokens_per_s)} tokens/s" if run.tokens_per_s and run.state == "training" else ""
    return [
        run.name,
        run.state,
        f"{100 * run.share:.0f} %" if run.share is not None else "",
        f"{format_count(run.tokens)}{of} tokens" if run.tokens else "",
        f"ETA {format_eta(run.eta_s)}" if run.eta_s is not None else "",
        rate,
        f"loss {run.losses[-1]:.3f}" if run.losses else "",
        sparkline(run.losses, bars),
    ]


def _workers(run: RunStatus) -> Iterator[str]:
    if not run.workers:
        return
    hosts = Counter(worker.host for worker in run.workers)
    slowest = max(run.workers, key=lambda worker: worker.moved_s)
    where = ", ".join(f"{count} on {host}" for host, count in hosts.items())
    moved = f"rank {slowest.rank} entered phase {slowest.phase} of step {slowest.step} {_ago(slowest.moved_s)}"
    yield f"      workers: {where}; attempt {run.attempts}; {moved}"


def _ago(seconds: float) -> str:
    return f"{format_eta(max(0.0, seconds))} ago"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
