"""Tables of how it was done: runs, time and memory, warnings, arms, self-tests, stages, artifacts, versions.

In: the index of a study's records. Out: tables, and sentences that go with them. Names of runs stand in full here.
"""

from __future__ import annotations

from collections.abc import Iterator

from cpt_ray.records import RunEvent, RunRecord, TrainingRecord
from cpt_ray.report.blocks import Cell, Table
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.index import Index
from cpt_ray.report.text.pairing import pairings
from cpt_ray.report.wording import byte_size, duration, integer, number, rate, scientific, share


def run_table(index: Index) -> Table:
    """Every run, what it saw, what it paid, how fast it was."""
    header = (
        "run", "short name", "annealed", "tokens seen", "tokens paid", "peak rate", "steps", "workers", "attempts", "tokens/s",
        "MFU", "FLOPs", "wall time",
    )  # fmt: skip
    contents = index.contents
    notes = ["Steps, skipped steps and their tokens are counted from the base; loss spikes are those of the run itself."]
    notes += [
        f"Computed with attention: {attention}{f'; {projections}' if projections else ''}{f'; loss: {loss}' if loss else ''}."
        for attention, projections, loss in kernels(contents)
    ]
    dropout = list(dict.fromkeys(run.training.last.dropout or "none" for run in contents.runs if run.training))
    paired = pairings(contents.runs)
    if dropout:
        order = f" Order of rows: {' '.join(paired)}" if paired else ""
        notes.append(f"Dropout: {'; '.join(dropout)}.{order}")
    for peak, flops in mfu_bases(contents):
        counted = f" FLOPs: {flops}." if flops else ""
        notes.append(f"MFU is model FLOPs divided by the steps' time and by the peak. Peak: {peak}.{counted}")
    return Table.of("runs", "Runs", header, [_run(index, run) for run in contents.runs], words=3, notes=notes)


def _run(index: Index, run: RunRecord) -> tuple[Cell | str | int | None, ...]:
    t = run.training
    how: str = run.kind
    if run.merge is not None:
        how += f", of {run.parent}"
    elif run.parent is not None and t is not None:
        how += f", from {run.parent} at {integer(t.start_tokens)} tokens"
    if run.kind == "chain" and run.parent is not None and t is not None:
        how += f", optimizer {t.optimizer}"
    first = (
        Cell(run.run, (how,)),
        index.name(run.run),
        run.annealed,
        Cell(integer(run.tokens_seen), strong=True, raw=run.tokens_seen),
    )
    if t is None:
        return (*first, run.tokens_paid, *(None,) * 8)
    end = f"decays to {rate(t.schedule.final_rate)}" if run.annealed else "not decayed"
    done = []
    if t.progress.steps_skipped:
        done += [f"{integer(t.progress.steps_skipped)} skipped", f"{integer(t.progress.tokens_skipped)} tokens"]
    if t.spikes:
        done.append(f"{integer(t.spikes)} loss spike{'s' * (t.spikes > 1)}")
    mfu = None
    if t.cost.mfu is not None:
        mfu = Cell(share(t.cost.mfu), (f"of {number(t.last.peak_flops_per_s / 1e12, 1)} TFLOP/s",), raw=t.cost.mfu)
    return (
        *first, run.tokens_paid, Cell(rate(t.schedule.peak_rate), (end,), raw=t.schedule.peak_rate),
        Cell(integer(t.progress.step), tuple(done), tone="bad" if t.progress.steps_skipped else "", raw=t.progress.step),
        ", then ".join(map(str, t.world_sizes)),
        Cell(str(len(t.attempts)), (f"first step {', '.join(map(str, t.first_steps))}",), raw=len(t.attempts)),
        round(t.cost.mean_tokens_per_s), mfu, Cell(scientific(t.cost.flops), raw=t.cost.flops),
        Cell(duration(t.cost.wall_s), _when(t), raw=t.cost.wall_s),
    )  # fmt: skip


def _when(training: TrainingRecord) -> tuple[str, ...]:
    """From when to when a run was trained, to the second: those that overlap trained side by side."""
    start, end = (time[:19].replace("T", " ") for time in training.interval)
    return (start, f"to {end if end[:10] != start[:10] else end[11:]} UTC") if start and end else ()


def watch_table(index: Index) -> Table | None:
    """What each trained run spent besides its steps; a trajectory point is part of its parent. None if nothing was timed."""
    rows = list(_watched(index))
    if not rows:
        return None
    lead = "Shares are of the time of steps, checkpoints and held-out losses together. Memory is the highest of any worker."
    header = (
        "run", "time", "waiting for data", "checkpoints", "held-out losses", "host memory, peak", "GPU memory, peak"
    )  # fmt: skip
    return Table.of("time_and_memory", "Time and memory", header, rows, lead=lead)


def _watched(index: Index) -> Iterator[tuple[Cell | str, ...]]:
    for run in index.contents.runs:
        if run.training is None or run.kind == "trajectory":
            continue
        cost = run.training.cost
        seconds = cost.wall_s + cost.checkpoint_s + cost.held_out_s
        if seconds:
            yield (
                index.name(run.run), Cell(duration(seconds), raw=seconds),
                Cell(share(cost.data_wait_s / seconds), raw=cost.data_wait_s / seconds),
                Cell(share(cost.checkpoint_s / seconds), (duration(cost.checkpoint_s),), raw=cost.checkpoint_s / seconds),
                Cell(share(cost.held_out_s / seconds), (duration(cost.held_out_s),), raw=cost.held_out_s / seconds),
                _memory(cost.host_peak_bytes, "not measured"),
                _memory(cost.device_peak_bytes, number(None)),
            )  # fmt: skip


def _memory(peak: int | None, none: str) -> Cell:
    return Cell(byte_size(peak) if peak is not None else none, raw=peak if peak is not None else none)


def warning_table(contents: ReportContents) -> Table | None:
    """Warnings from workers, each text once per run; None if there was none."""
    found: dict[tuple[str, str], list[RunEvent]] = {}
    for run, events in contents.warnings.items():
        for event in events:
            found.setdefault((run, event.text), []).append(event)
    if not found:
        return None
    rows = [
        (run, events[0].kind, text, min(event.step for event in events), len({event.rank for event in events}))
        for (run, text), events in found.items()
    ]
    return Table.of("warnings", "Warnings", ("run", "kind", "text", "first at step", "workers"), rows, words=3)


def arm_table(contents: ReportContents) -> Table:
    """The arms and their mixtures."""
    rows = [
        (name, arm.role, ", ".join(f"{source} {share(weight)}" for source, weight in arm.mix.items()), f"{arm.max_epochs:g}")
        for name, arm in contents.arms.items()
    ]
    return Table.of("arms", "Arms", ("arm", "role", "mix", "max epochs"), rows, words=3)


def proof_tables(contents: ReportContents) -> list[Table]:
    """Self-tests of document isolation, stages, artifacts and versions."""
    tests = [(run.run, run.training.last.self_test) for run in contents.runs if run.training and run.training.last.self_test]
    lead = (
        "Largest change in a token's log-probability, in nats, when its document is packed after another one; with the mask "
        "off it must be large, or the test proves nothing."
    )
    rows = [
        (
            run, t.kernel, t.dtype, Cell("yes" if t.passed else "NO", tone="" if t.passed else "bad", raw=t.passed),
            Cell(scientific(t.masked_difference), raw=t.masked_difference),
            Cell(scientific(t.allowed_difference), raw=t.allowed_difference),
            Cell(scientific(t.unmasked_difference), raw=t.unmasked_difference),
        )
        for run, t in tests
    ]  # fmt: skip
    header = ("run", "kernel", "type", "passed", "mask on", "allowed", "mask off")
    tables = [Table.of("self_tests", "Self-test of document isolation", header, rows, words=4, lead=lead)] if rows else []
    prepared = ", ".join(f"{stage} {len(pids)}" for stage, pids in contents.manifest.task_pids.items())
    note = (
        f"Processes that prepared the data: {prepared}. Tokenizer {contents.manifest.tokenizer_sha256[:12]}, vocabulary "
        f"{integer(contents.manifest.vocabulary_size)}."
    )
    stages = [(stage, Cell(duration(seconds), raw=seconds)) for stage, seconds in contents.stage_timings.items()]
    tables.append(Table.of("stages", "Stages", ("stage", "wall time"), stages, notes=[note] if prepared else []))
    if contents.lineage:
        tables.append(Table.of("artifacts", "Artifacts", ("artifact", "fingerprint"), list(contents.lineage.items()), words=2))
    tables.append(Table.of("versions", "Versions", ("package", "version"), list(contents.versions.items()), words=2))
    return tables


def kernels(contents: ReportContents) -> list[tuple[str, str, str]]:
    """What computed the runs, as (attention, projections, loss); runs with the same are listed once."""
    last = [run.training.last for run in contents.runs if run.training is not None]
    return list(dict.fromkeys((attempt.kernel, attempt.projections, attempt.loss_kernel) for attempt in last))


def mfu_bases(contents: ReportContents) -> list[tuple[str, str]]:
    """How MFU was computed, as (peak, FLOPs); runs with the same basis are listed once."""
    trained = [run.training for run in contents.runs if run.training is not None]
    counted = [one.last for one in trained if one.cost.mfu is not None and one.last.peak_basis]
    return list(dict.fromkeys((attempt.peak_basis, attempt.flops_basis) for attempt in counted))
