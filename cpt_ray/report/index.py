"""Look up what a page shows: short names, models and arms in the order of the page, differences by what they are of.

In: `ReportContents`. Guarantee: two models never have the same short name, and each look-up takes constant time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from cpt_ray.compare.compute import flops_to
from cpt_ray.compare.selection import AS_LISTED, BY_VALIDATION, in_order, validation_gains
from cpt_ray.records import Delta, RunRecord
from cpt_ray.report.contents import ReportContents
from cpt_ray.report.wording import count

MOST_DRAWN = 12
"""Models and arms in one figure, four sizes of three arms: more can not be told apart."""


@dataclass(frozen=True, slots=True)
class Group:
    """A model and an arm, and its budgets in tokens, ascending.

    Attributes:
        control: The control arm that its largest budget is compared with; empty if there is none.
    """

    model: str
    arm: str
    budgets: tuple[int, ...]
    control: str = ""


@dataclass(frozen=True)
class _Key:
    model: str
    arm: str
    budget: int
    set_name: str
    measure: str
    reference: str


class Index:
    """The records of a study by what a reader asks for.

    Attributes:
        groups: Models and arms that are no controls: the largest model first, then as the study lists them; beyond
            `MOST_DRAWN` groups in the order of `compare.selection`.
        ordered: Of more than `MOST_DRAWN` groups, how they are ordered, in words; else empty.
        sets: Held-out sets with their roles in the study, where the domain of any arm is domain text; see `sets_of`.
    """

    def __init__(self, contents: ReportContents) -> None:
        self.contents = contents
        self.runs = {run.run: run for run in contents.runs}
        self._by_cell = {f"{run.cell} (": run for run in reversed(contents.runs)}
        self._several_models = len({run.model for run in contents.runs}) > 1
        self._several_seeds = len({run.seed for run in contents.runs if run.arm is not None}) > 1
        self._short = self._shorten(contents.runs)
        self._deltas: dict[_Key, Delta] = {}
        self._roles: dict[tuple[str, str, str], str] = {}
        for delta in contents.comparison.deltas:
            self._add(delta)
        self.groups, self.ordered = self._groups()
        self.sets = self._sets()

    @property
    def domain_sets(self) -> list[str]:
        """Held-out sets of the domain."""
        return [name for name, role in self.sets if role == "domain"]

    @property
    def other_sets(self) -> list[tuple[str, str]]:
        """The other held-out sets with their roles, probes first."""
        return [(name, role) for name, role in self.sets if role != "domain"]

    def sets_of(self, group: Group) -> list[tuple[str, str]]:
        """Held-out sets with their roles for one group, its domain first: another arm's domain is a probe for it."""
        own = [(name, self._roles.get((group.model, group.arm, name), role)) for name, role in self.sets]
        return sorted(own, key=_place_of_role)

    def is_domain(self, group: Group, set_name: str) -> bool:
        """Whether a set is domain text for a group."""
        return (set_name, "domain") in self.sets_of(group)

    def run_of(self, name: str) -> RunRecord | None:
        """The run or merge of that name, or the first run of a cell `... (mean of N seeds)`."""
        return self.runs.get(name) or self._by_cell.get(name.partition("(")[0] + "(")

    def role_of(self, run: RunRecord) -> str:
        """`base`, or the role of the run's arm: `domain` or `control`; empty for an arm that the study no longer has."""
        arm = self.contents.arms.get(run.arm or "")
        return "base" if run.kind == "base" else arm.role if arm else ""

    def name(self, run: str) -> str:
        """Short name of a run, or of a cell of several seeds."""
        if run in self._short:
            return self._short[run]
        record = self.run_of(run)
        return run if record is None else self._describe(record, seed=False)

    def names_legend(self) -> list[str]:
        """What short names leave out, in sentences."""
        models = list(dict.fromkeys(run.model for run in self.contents.runs))
        seeds = sorted({run.seed for run in self.contents.runs if run.seed is not None})
        said = [f"Every model here is made of {models[0]}."] if len(models) == 1 else []
        said += [f"Every run has seed {seeds[0]}."] if len(seeds) == 1 else []
        said += ["Without a seed, a figure is the mean over seeds."] if len(seeds) > 1 else []
        first = next((run for run in self.contents.runs if run.budget_tokens), None)
        if first is not None and self._short[first.run] != first.run:
            parts = ["model"] * self._several_models + ["arm"]
            said.append(
                f"A name is {', '.join(parts)} and budget in tokens: “{self._short[first.run]}” is the run {first.run}."
            )
        return said

    def difference(
        self, group: Group, budget: int, set_name: str, measure: str = "bits_per_byte", reference: str = "base"
    ) -> Delta | None:
        """The difference over all seeds of a group's budget against its `base`, its `control`, or its budget before."""
        return self._deltas.get(_Key(group.model, group.arm, budget, set_name, measure, reference))

    def control_of(self, group: Group) -> Group | None:
        """The control of a group, as a group."""
        if not group.control:
            return None
        return Group(group.model, group.control, self._budgets.get((group.model, group.control), ()))

    def drawn(self) -> tuple[list[Group], str]:
        """The groups that figures draw, controls last, and a sentence on those that they do not."""
        chosen, pairs = list[Group](), list[Group]()
        for group in self.groups:
            control = self.control_of(group)
            new = [one for one in (control,) if one is not None and one not in pairs]
            if len(chosen) + len(pairs) + 1 + len(new) > MOST_DRAWN and chosen:
                break
            chosen.append(group)
            pairs += new
        left = len(self.groups) - len(chosen)
        said = f"Drawn: {len(chosen)} of {len(self.groups)} models and arms, those that stand first; all are in the table."
        return [*chosen, *pairs], said if left else ""

    def label(self, group: Group) -> str:
        """The name of a group."""
        return f"{group.model}, {group.arm}" if self._several_models else group.arm

    def tokens(self, group: Group, budget: int) -> float:
        """Mean tokens seen by the runs of a budget."""
        seen = [run.tokens_seen for run in self._members(group, budget)]
        return sum(seen) / len(seen) if seen else float(budget)

    def flops(self, group: Group, budget: int) -> float:
        """Mean FLOPs of the runs of a budget, counted from the base."""
        spent = [flops_to(run, self.runs) for run in self._members(group, budget)]
        return sum(spent) / len(spent) if spent else 0.0

    def _members(self, group: Group, budget: int) -> list[RunRecord]:
        return self._runs_by_budget.get((group.model, group.arm, budget), [])

    @cached_property
    def _runs_by_budget(self) -> dict[tuple[str, str, int], list[RunRecord]]:
        found: dict[tuple[str, str, int], list[RunRecord]] = {}
        for run in self.contents.runs:
            if run.arm is not None and run.budget_tokens is not None and run.merge is None and run.annealed:
                found.setdefault((run.model, run.arm, run.budget_tokens), []).append(run)
        return found

    @cached_property
    def _budgets(self) -> dict[tuple[str, str], tuple[int, ...]]:
        found: dict[tuple[str, str], set[int]] = {}
        for model, arm, budget in self._runs_by_budget:
            found.setdefault((model, arm), set()).add(budget)
        return {key: tuple(sorted(values)) for key, values in found.items()}

    def _add(self, delta: Delta) -> None:
        run, reference = self.run_of(delta.subject), self.run_of(delta.reference)
        if run is None or reference is None or run.merge is not None or run.arm is None or run.budget_tokens is None:
            return
        role = "previous" if reference.arm == run.arm else self.role_of(reference)
        key = _Key(run.model, run.arm, run.budget_tokens, delta.set_name, delta.measure, role)
        self._roles[run.model, run.arm, delta.set_name] = delta.role
        # The mean over seeds, which is not named like a run, comes before its single seeds.
        if key not in self._deltas or delta.subject != run.run:
            self._deltas[key] = delta

    def _sets(self) -> list[tuple[str, str]]:
        judged: dict[str, set[str]] = {}
        for (_, _, name), role in self._roles.items():
            judged.setdefault(name, set()).add(role)
        seen = {p.set_name: str(p.role) for p in self.contents.comparison.points}
        seen |= {name: "probe" for name in seen if judged.get(name, set()) >= {"probe"} and "domain" not in judged[name]}
        first = {
            name for group in self.groups[:1] for name in seen if self._roles.get((group.model, group.arm, name)) == "domain"
        }
        # The domain of the model and arm that stand first is what the page opens with.
        return sorted(seen.items(), key=lambda item: (_place_of_role(item), item[0] not in first))

    def _groups(self) -> tuple[list[Group], str]:
        size: dict[str, float] = {}
        for run in self.contents.runs:
            if run.training is not None and run.tokens_paid > 0:
                size.setdefault(run.model, run.training.cost.flops / run.tokens_paid)
        controls = self._controls()
        groups = [
            Group(model, arm, budgets, controls.get((model, arm), ""))
            for (model, arm), budgets in self._budgets.items()
            if (config := self.contents.arms.get(arm)) is not None and config.role != "control"
        ]
        many = len(groups) > MOST_DRAWN
        gains = validation_gains(self.contents.evals) if many else {}
        by_place = {(group.model, group.arm): group for group in groups}
        ordered = [by_place[place] for place in in_order(list(by_place), gains, size)]
        return ordered, (BY_VALIDATION if gains else AS_LISTED) if many else ""

    def _controls(self) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], tuple[int, str]] = {}
        for key, delta in self._deltas.items():
            reference = self.run_of(delta.reference)
            if key.reference == "control" and reference is not None and reference.arm is not None:
                place = (key.model, key.arm)
                found[place] = max(found.get(place, (0, "")), (key.budget, reference.arm))
        return {place: arm for place, (_, arm) in found.items()}

    def _shorten(self, runs: Iterable[RunRecord]) -> dict[str, str]:
        short = {run.run: self._describe(run, seed=self._several_seeds) for run in runs}
        taken = dict[str, int]()
        for name in short.values():
            taken[name] = taken.get(name, 0) + 1
        return {run: name if taken[name] == 1 else run for run, name in short.items()}

    def _describe(self, run: RunRecord, *, seed: bool) -> str:
        parts = [run.model] if self._several_models else []
        if run.arm is None:
            return " ".join(["base", *parts])
        parts.append(run.arm)
        if run.kind == "trajectory":
            parts.append(f"at {count(run.tokens_seen)}")
        else:
            parts.append(count(run.budget_tokens) if run.budget_tokens else run.kind)
        if run.merge is not None:
            parts.append(run.merge.suffix.lstrip("-"))
        return " ".join(parts) + (f", seed {run.seed}" if seed else "")


def _place_of_role(item: tuple[str, str]) -> int:
    """Where a set stands: the domain, then probes, then the rest."""
    return {"domain": 0, "probe": 1}.get(item[1], 2)
