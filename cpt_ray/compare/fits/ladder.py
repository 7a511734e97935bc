"""The scores that curves are fitted to: a model's losses on a set, over an arm's budgets and seeds.

In: cells and run records. Out: `Ladder`s, with the same losses over random subsets of the documents. Guarantee: the subsets of
a set are the same for all models and arms, so that what is computed of two ladders is paired by documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cpt_ray.compare.compute import domain_share, flops_to
from cpt_ray.compare.deltas import Cell, Scored, documents_of, reported_sets
from cpt_ray.evaluate import intervals
from cpt_ray.evaluate.intervals import Floats
from cpt_ray.records import RunRecord, SourceRole

SUBSETS = 200
"""Refits behind the part of an interval that is over documents; half of them are complements of the other half."""


@dataclass(frozen=True)
class Ladder:
    """An arm's scores on a set; arrays over scores are in the order of budgets, then seeds.

    Attributes:
        model, arm, set_name, role: What was scored on what.
        parameters: Of the model, if known.
        documents: Number of documents.
        share: Domain text in the rows drawn, if the records say.
        seeds, budgets: Of each score; budgets in nominal tokens.
        tokens, flops: [scores], from the base on.
        losses: [scores], bits per byte.
        base: Of the base.
        subset_losses, subset_base: [subsets, scores] and [subsets].
    """

    model: str
    arm: str
    set_name: str
    role: SourceRole
    parameters: int | None
    documents: int
    share: float | None
    seeds: tuple[int, ...]
    budgets: tuple[int, ...]
    tokens: Floats
    flops: Floats
    losses: Floats
    base: float
    subset_losses: Floats
    subset_base: Floats

    @property
    def flops_per_token(self) -> float:
        """Of its largest run."""
        largest = int(self.tokens.argmax())
        return float(self.flops[largest] / self.tokens[largest])

    def at(self, budget: int) -> list[int]:
        """Places of a budget's scores."""
        return [place for place, value in enumerate(self.budgets) if value == budget]

    def steps(self, losses: Floats, seed: int | None = None) -> tuple[Floats, Floats]:
        """FLOPs and mean losses by budget, ascending, of all seeds or of one; `losses` may have leading dimensions."""
        places = [
            [place for place in self.at(budget) if seed is None or self.seeds[place] == seed]
            for budget in dict.fromkeys(self.budgets)
        ]
        kept = [group for group in places if group]
        flops = np.array([self.flops[group].mean() for group in kept])
        return flops, np.stack([losses[..., group].mean(axis=-1) for group in kept], axis=-1)


def by_kept_set(ladders: Sequence[Ladder]) -> dict[tuple[str, str], list[Ladder]]:
    """By model and set the arms of whose domain it is not: of these, a loss on it is forgetting.

    An arm without domain text is one of them also where the set is the domain of another arm.
    """
    found: dict[tuple[str, str], list[Ladder]] = {}
    for kept in (one for one in ladders if one.role != "domain"):
        place = (kept.model, kept.set_name)
        if place not in found:
            same = [one for one in ladders if (one.model, one.set_name) == place]
            found[place] = [replace(one, role=kept.role) for one in same if one.role != "domain" or one.share == 0]
    return found


def read_ladders(
    cells: Sequence[Cell],
    runs: Mapping[str, RunRecord],
    *,
    parameters: Mapping[str, int],
    domain_sources: frozenset[str],
    probes: Mapping[str, frozenset[str]],
    seed: int,
) -> list[Ladder]:
    """Read every arm's scores on every test set.

    Args:
        cells: Bases and budgets, all annealed.
        runs: By name, with the parents of branches.
        parameters: By model.
        domain_sources: Sources whose rows count as domain text.
        probes: Arm to the sets of other roles that count as probes for it.
        seed: Of the subsets.

    Raises:
        DataError: If a file is missing or damaged.
    """
    ladders = []
    for model in dict.fromkeys(cell.model for cell in cells):
        own = [cell for cell in cells if cell.model == model]
        base = next(cell for cell in own if cell.arm is None).scored[0]
        for arm in dict.fromkeys(cell.arm for cell in own if cell.arm is not None):
            trained = sorted((cell for cell in own if cell.arm == arm), key=lambda cell: cell.budget_tokens or 0)
            scored = [one for cell in trained for one in cell.scored]
            shares = [domain_share(runs[one.record.run], domain_sources) for one in scored]
            known = [share for share in shares if share is not None]
            for score in reported_sets(scored[0].record):
                role: SourceRole = "probe" if score.source in probes.get(str(arm), frozenset()) else score.role
                ladders.append(
                    _read(
                        base, scored, runs, score.source, role, seed=seed, parameters=parameters.get(model),
                        share=sum(known) / len(known) if known else None,
                    )
                )  # fmt: skip
    return ladders


def _read(
    base: Scored,
    scored: Sequence[Scored],
    runs: Mapping[str, RunRecord],
    set_name: str,
    role: SourceRole,
    *,
    seed: int,
    parameters: int | None,
    share: float | None,
) -> Ladder:
    documents = documents_of(base, set_name)
    nats = np.array([documents.nats, *(documents_of(one, set_name).nats for one in scored)])
    bits = math.log(2) * documents.bytes
    random = intervals.generator(seed, f"fits/{set_name}")
    chosen = random.random((SUBSETS // 2, len(bits))) < 0.5
    chosen = np.concatenate([chosen, ~chosen])
    # A subset of no bytes says nothing; with ten documents there is hardly one.
    chosen = chosen[chosen @ bits > 0]
    subsets = chosen @ nats.T / (chosen @ bits)[:, None]
    losses = nats.sum(axis=1) / bits.sum()
    return Ladder(
        model=base.record.model,
        arm=str(scored[0].record.arm),
        set_name=set_name,
        role=role,
        parameters=parameters,
        documents=len(documents.rows),
        share=share,
        seeds=tuple(one.record.seed or 0 for one in scored),
        budgets=tuple(one.record.budget_tokens or 0 for one in scored),
        tokens=np.array([one.record.tokens_seen for one in scored], dtype=np.float64),
        flops=np.array([flops_to(runs[one.record.run], runs) for one in scored]),
        losses=losses[1:],
        base=float(losses[0]),
        subset_losses=subsets[:, 1:],
        subset_base=subsets[:, 0],
    )
