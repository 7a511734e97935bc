"""What a study found: the points of its curves, the paired differences, the verdict.

In: `EvalRecord`s, their folders (for the per-document files), the runs. Out: a `Comparison`. Pure except for reading those
files. Every budget is compared with the base, with the equal-token control and with its arm's next smaller budget. A merge is
compared with the base and with the budget it was made of; it is on no curve and in no verdict.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cpt_ray.compare.answers import answer
from cpt_ray.compare.deltas import Cell, Scored, cell_deltas, reported_sets
from cpt_ray.compare.fits.ladder import read_ladders
from cpt_ray.compare.judgment import Judged
from cpt_ray.compare.prices import TokenPrices, with_prices
from cpt_ray.compare.selection import by_arm, say_selected, select, to_fit
from cpt_ray.compare.verdict import ArmFindings, conclude, notes, say_failed
from cpt_ray.config.sections.evaluate import CompareConfig
from cpt_ray.errors import DataError
from cpt_ray.records import Answers, Comparison, Delta, EvalRecord, Point, RunRecord

_Compared = tuple[Cell, Cell, Sequence[Delta]]
"""Subject, reference, and their differences over all seeds."""
_FIX = "run `cpt-ray evaluate` for this study; it scores the base and every budget"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the study file says of arms, sources and models, by their names in the study."""

    control_arms: frozenset[str]
    """The arms whose role is `control`."""
    controls: Mapping[str, frozenset[str]] | None = None
    """Arm to the control arms that it is compared with; None: all of them."""
    probes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Arm to the sets of other roles that count as probes for it; see `config.domains.probes_of_arms`."""
    control_draws: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Arm to the sources that its controls train on."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Model to its number of parameters, for curves over size."""
    domain_sources: frozenset[str] = frozenset()
    """Sources whose rows count as domain text in an arm's mixture."""
    tokens_paid: int = 0
    """Tokens that the runs of the study trained on, together."""
    prices: TokenPrices | None = None
    """What a token cost; None where no price is known."""

    def is_rival(self, arm: str, control: str) -> bool:
        """Whether an arm is compared with a control."""
        return self.controls is None or control in self.controls.get(arm, frozenset())


def compare(
    evals: Sequence[EvalRecord],
    eval_folders: Mapping[str, Path],
    runs: Sequence[RunRecord],
    config: CompareConfig,
    facts: Facts,
    *,
    caveats: Sequence[str] = (),
) -> Comparison:
    """Draw the study's conclusions.

    Args:
        evals: Scores of the bases and of all budgets.
        eval_folders: Run name to its evaluation folder.
        runs: Records of all runs in `evals`.
        config: The `compare` section.
        facts: What the study file says.
        caveats: Notes from the study file.

    Returns:
        Points, deltas, verdict, notes, and what the curves say; the same input gives the same output.

    Raises:
        DataError: If a base was not scored, a run or folder is missing, or two models were scored on different items.
    """
    by_run = {run.run: run for run in runs}
    _require_complete(evals, by_run, eval_folders)
    merged, scored = ([r for r in evals if (by_run[r.run].merge is not None) == is_merge] for is_merge in (True, False))
    budgets = [r for r in scored if r.arm is None or (r.budget_tokens is not None and by_run[r.run].annealed)]
    cells, merges = (_cells(records, eval_folders, by_run) for records in (budgets, merged))
    deltas, findings = list[Delta](), list[ArmFindings]()
    compared = list[_Compared]()
    for model in dict.fromkeys(record.model for record in evals):
        own = [cell for cell in cells if cell.model == model]
        model_findings, model_deltas, model_compared = _compare_model(_base_of(model, own), own, config, facts)
        findings += model_findings
        deltas += model_deltas
        compared += model_compared
        deltas += _compare_merges([cell for cell in merges if cell.model == model], own, config, facts)
    selected = select(cells, controls=facts.control_arms, probes=facts.probes)
    failed = tuple(one for record in evals for one in record.failed)
    labels = {exam.task: exam.label for record in evals for exam in record.exams}
    return Comparison(
        points=tuple(_points(evals, by_run)),
        deltas=tuple(deltas),
        conclusions=tuple(conclude(finding, config, labels) for finding in findings),
        notes=(
            *map(say_selected, selected),
            *notes(findings, evals, not_annealed=len(scored) - len(budgets)),
            *map(say_failed, failed),
            *caveats,
        ),
        tokens_seen=max((record.tokens_seen for record in evals), default=0),
        tokens_paid=facts.tokens_paid,
        selected=selected,
        failed=failed,
        answers=_answers(budgets, cells, by_run, _judged(compared), config, facts),
    )


def _answers(
    budgets: Sequence[EvalRecord],
    cells: Sequence[Cell],
    runs: Mapping[str, RunRecord],
    judged: Judged,
    config: CompareConfig,
    facts: Facts,
) -> Answers:
    """What the curves say, with prices, and what of many arms was left out."""
    fitted, unfitted = to_fit(budgets, facts.control_arms, facts.parameters, config.most_fitted)
    ladders = read_ladders(
        [cell for cell in cells if cell.arm is None or (cell.model, cell.arm) in fitted],
        runs,
        parameters=facts.parameters,
        domain_sources=facts.domain_sources,
        probes=facts.probes,
        seed=config.seed,
    )
    answers = answer(ladders, judged, config, facts.control_arms)
    return with_prices(answers, facts.prices).model_copy(update={"unfitted": unfitted})


def _require_complete(evals: Sequence[EvalRecord], by_run: Mapping[str, RunRecord], eval_folders: Mapping[str, Path]) -> None:
    for record in evals:
        if record.run not in by_run or record.run not in eval_folders:
            raise DataError(f"{record.run} has scores, but no run record or no evaluation folder", fix=_FIX)
        if not reported_sets(record):
            raise DataError(f"{record.run} has no scores on a test set; only those are reported", fix=_FIX)


def _base_of(model: str, cells: Sequence[Cell]) -> Cell:
    base = next((cell for cell in cells if cell.arm is None), None)
    if base is None:
        raise DataError(f"the base of {model} was not scored; everything is compared with it", fix=_FIX)
    return base


def _compare_merges(merges: Sequence[Cell], cells: Sequence[Cell], config: CompareConfig, facts: Facts) -> list[Delta]:
    """Compare the merges of a model with its base and with what they are made of."""
    deltas: list[Delta] = []
    for merge in merges:
        made_of = [cell for cell in cells if (cell.arm, cell.budget_tokens) == (merge.arm, merge.budget_tokens)]
        for reference in (_base_of(merge.model, cells), *made_of):
            deltas += _all_deltas(merge, reference, config, facts.probes.get(merge.arm or "", frozenset()))
    return deltas


def _cells(evals: Sequence[EvalRecord], folders: Mapping[str, Path], by_run: Mapping[str, RunRecord]) -> list[Cell]:
    groups: dict[tuple[str, str | None, int | None, str], list[EvalRecord]] = {}
    for record in evals:
        merge = by_run[record.run].merge
        groups.setdefault((record.model, record.arm, record.budget_tokens, merge.suffix if merge else ""), []).append(record)
    return [
        Cell(model, arm, budget, tuple(Scored(r, folders[r.run]) for r in sorted(records, key=lambda r: r.seed or 0)), suffix)
        for (model, arm, budget, suffix), records in groups.items()
    ]


def _all_deltas(subject: Cell, reference: Cell, config: CompareConfig, probes: frozenset[str]) -> list[Delta]:
    """The differences over all seeds and by seed."""
    return [_with_role(delta, probes) for part in cell_deltas(subject, reference, config) for delta in part]


def _compare_model(
    base: Cell, cells: Sequence[Cell], config: CompareConfig, facts: Facts
) -> tuple[list[ArmFindings], list[Delta], list[_Compared]]:
    trained = sorted((cell for cell in cells if cell.arm is not None), key=lambda cell: cell.budget_tokens or 0)
    controls = [cell for cell in trained if cell.arm in facts.control_arms]
    deltas, compared = list[Delta](), list[_Compared]()

    def keep(subject: Cell, reference: Cell) -> tuple[Delta, ...]:
        paired, sets = cell_deltas(subject, reference, config), facts.probes.get(subject.arm or "", frozenset())
        overall, by_seed = ([_with_role(delta, sets) for delta in part] for part in paired)
        deltas.extend([*overall, *by_seed])
        compared.append((subject, reference, overall))
        return tuple(overall)

    control_changes = [(control, keep(control, base)) for control in controls]
    findings = []
    for (_, arm), ladder in by_arm([cell for cell in trained if cell.arm not in facts.control_arms]).items():
        largest, previous = ladder[-1], ladder[-2] if len(ladder) > 1 else None
        against_base = [keep(cell, base) for cell in ladder]
        rivals = [control for control in controls if facts.is_rival(arm, str(control.arm))]
        against_control = [
            keep(cell, control) for cell in ladder for control in rivals if control.budget_tokens == cell.budget_tokens
        ]
        steps = [keep(cell, before) for before, cell in itertools.pairwise(ladder)]
        equal = [control for control in rivals if control.budget_tokens == largest.budget_tokens]
        findings.append(
            ArmFindings(
                largest=largest,
                previous=previous,
                against_base=against_base[-1],
                # The ladder ascends, so the largest budget's comparisons are the last ones.
                against_control=_flat(against_control[len(against_control) - len(equal) :]),
                marginal=steps[-1] if steps else (),
                control_against_base=_flat(change for control, change in control_changes if control in equal),
                control_draws=facts.control_draws.get(arm, frozenset()),
            )
        )
    return findings, deltas, compared


def _judged(compared: Sequence[_Compared]) -> Judged:
    """What predictions are held against: a trained cell and its base, or its arm's budget before."""
    against_base, last_step = {}, {}
    for subject, reference, deltas in compared:
        for delta in deltas:
            place = subject.model, str(subject.arm)
            if delta.measure == "bits_per_byte" and reference.arm is None:
                against_base[*place, subject.budget_tokens or 0, delta.set_name] = delta
            elif delta.measure == "bits_per_byte" and reference.arm == subject.arm:
                # Budgets ascend: the step to the largest stays.
                last_step[*place, delta.set_name] = delta
    return Judged(against_base, last_step)


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
            merged=by_run[record.run].merge is not None,
        )
        for record in evals
        for score in reported_sets(record)
    ]
