"""What a study found: the points of its curves, the paired differences, the verdict.

In: `EvalRecord`s, their folders (for the per-document files), the runs. Out: a `Comparison`. Pure except for reading those
files. Every budget is compared with the base and with the equal-token control, and the two largest budgets with each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cpt_ray.compare.answers import answer
from cpt_ray.compare.deltas import Cell, Scored, cell_deltas, reported_sets
from cpt_ray.compare.fits.ladder import read_ladders
from cpt_ray.compare.verdict import ArmFindings, describe, headline, notes
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.errors import DataError
from cpt_ray.records import Comparison, Delta, EvalRecord, Point, RunRecord

_FIX = "run `cpt-ray evaluate` for this study; it scores the base and every budget"


def compare(
    evals: Sequence[EvalRecord],
    eval_folders: Mapping[str, Path],
    runs: Sequence[RunRecord],
    config: CompareConfig,
    *,
    control_arms: frozenset[str],
    tokens_paid: int,
    probes: Mapping[str, frozenset[str]] | None = None,
    control_draws: frozenset[str] = frozenset(),
    caveats: Sequence[str] = (),
    parameters: Mapping[str, int] | None = None,
    domain_sources: frozenset[str] = frozenset(),
) -> Comparison:
    """Draw the study's conclusions.

    Args:
        evals: Scores of the bases and of all budgets.
        eval_folders: Run name to its evaluation folder.
        runs: Records of all runs in `evals`.
        config: The `compare` section.
        control_arms: Names of the arms whose role is `control`.
        tokens_paid: Total tokens that the runs of the study trained on.
        probes: Arm to the sets of other roles that count as probes for it; see `config.domains.probes_of_arms`.
        control_draws: The sources that the control arms train on.
        caveats: Notes from the study file.
        parameters: Model to its number of parameters, for curves over size.
        domain_sources: Sources whose rows count as domain text in an arm's mixture.

    Returns:
        Points, deltas, verdict, notes, and what the curves say; the same input gives the same output.

    Raises:
        DataError: If a base was not scored, a run or folder is missing, or two models were scored on different items.
    """
    by_run = {run.run: run for run in runs}
    _check_complete(evals, eval_folders, by_run)
    budgets = [r for r in evals if r.arm is None or (r.budget_tokens is not None and by_run[r.run].annealed)]
    cells, others = _cells(budgets, eval_folders), probes or {}
    deltas: list[Delta] = []
    findings: list[ArmFindings] = []
    for model in dict.fromkeys(record.model for record in evals):
        own = [cell for cell in cells if cell.model == model]
        found = _compare_model(_base_of(model, own), own, config, control_arms, others, control_draws)
        findings += found[0]
        deltas += found[1]
    ladders = read_ladders(
        cells, by_run, parameters=parameters or {}, domain_sources=domain_sources, probes=others, seed=config.seed
    )
    labels = {exam.task: exam.label for record in evals for exam in record.exams}
    return Comparison(
        points=tuple(_points(evals, by_run)),
        deltas=tuple(deltas),
        headline=headline(findings, config),
        verdict=describe(findings, config, labels),
        notes=(*notes(findings, evals, not_annealed=len(evals) - len(budgets)), *caveats),
        tokens_seen=max((record.tokens_seen for record in evals), default=0),
        tokens_paid=tokens_paid,
        answers=answer(ladders, deltas, config, control_arms),
    )


def _check_complete(evals: Sequence[EvalRecord], folders: Mapping[str, Path], runs: Mapping[str, RunRecord]) -> None:
    for record in evals:
        if record.run not in runs or record.run not in folders:
            raise DataError(f"{record.run} has scores, but no run record or no evaluation folder", fix=_FIX)
        if not reported_sets(record):
            raise DataError(f"{record.run} has no scores on a test set; only those are reported", fix=_FIX)


def _base_of(model: str, cells: Sequence[Cell]) -> Cell:
    base = next((cell for cell in cells if cell.arm is None), None)
    if base is None:
        raise DataError(f"the base of {model} was not scored; everything is compared with it", fix=_FIX)
    return base


def _cells(evals: Sequence[EvalRecord], folders: Mapping[str, Path]) -> list[Cell]:
    groups: dict[tuple[str, str | None, int | None], list[EvalRecord]] = {}
    for record in evals:
        groups.setdefault((record.model, record.arm, record.budget_tokens), []).append(record)
    return [
        Cell(*key, scored=tuple(Scored(r, folders[r.run]) for r in sorted(records, key=lambda r: r.seed or 0)))
        for key, records in groups.items()
    ]


def _compare_model(
    base: Cell,
    cells: Sequence[Cell],
    config: CompareConfig,
    control_arms: frozenset[str],
    probes: Mapping[str, frozenset[str]],
    control_draws: frozenset[str],
) -> tuple[list[ArmFindings], list[Delta]]:
    trained = sorted((cell for cell in cells if cell.arm is not None), key=lambda cell: cell.budget_tokens or 0)
    controls = [cell for cell in trained if cell.arm in control_arms]
    deltas: list[Delta] = []

    def keep(subject: Cell, reference: Cell) -> tuple[Delta, ...]:
        paired, sets = cell_deltas(subject, reference, config), probes.get(subject.arm or "", frozenset())
        overall, by_seed = ([_with_role(delta, sets) for delta in part] for part in paired)
        deltas.extend([*overall, *by_seed])
        return tuple(overall)

    control_changes = [keep(control, base) for control in controls]
    findings = []
    for arm in dict.fromkeys(cell.arm for cell in trained if cell.arm not in control_arms):
        ladder = [cell for cell in trained if cell.arm == arm]
        largest, previous = ladder[-1], ladder[-2] if len(ladder) > 1 else None
        against_base = [keep(cell, base) for cell in ladder]
        against_control = [
            keep(cell, control) for cell in ladder for control in controls if control.budget_tokens == cell.budget_tokens
        ]
        equal = [control.budget_tokens == largest.budget_tokens for control in controls]
        findings.append(
            ArmFindings(
                largest=largest,
                previous=previous,
                against_base=against_base[-1],
                # The ladder ascends, so the largest budget's comparisons are the last ones.
                against_control=_flat(against_control[len(against_control) - sum(equal) :]),
                marginal=keep(largest, previous) if previous is not None else (),
                control_against_base=_flat(change for change, same in zip(control_changes, equal, strict=True) if same),
                control_draws=control_draws,
            )
        )
    return findings, deltas


def _with_role(delta: Delta, probes: frozenset[str]) -> Delta:
    """A difference on a set that counts as a probe for the subject is one on a probe."""
    return delta.model_copy(update={"role": "probe"}) if delta.role != "exam" and delta.set_name in probes else delta


def _flat(groups: Iterable[tuple[Delta, ...]]) -> tuple[Delta, ...]:
    return tuple(delta for group in groups for delta in group)


def _points(evals: Sequence[EvalRecord], by_run: Mapping[str, RunRecord]) -> list[Point]:
    return [
        Point(
            run=record.run,
            model=record.model,
            arm=record.arm,
            seed=record.seed,
            tokens_seen=record.tokens_seen,
            set_name=score.source,
            role=score.role,
            bits_per_byte=score.bits_per_byte,
            interval=score.bits_per_byte_interval,
            annealed=by_run[record.run].annealed,
        )
        for record in evals
        for score in reported_sets(record)
    ]
