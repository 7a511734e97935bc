"""What was spent up to a point: the FLOPs of a run and of what it started from, and the domain text that it saw.

A run's record counts its own steps only; a branch stands on the first part of its trunk, a stage of a chain on all before it.
"""

from __future__ import annotations

from collections.abc import Mapping

from cpt_ray.records import RunRecord


def flops_to(run: RunRecord, runs: Mapping[str, RunRecord], tokens: int | None = None) -> float:
    """FLOPs from the base to `tokens` of a run, its end by default: its steps' and its parents' up to where it started.

    A trajectory point's record has its parent's steps up to it. Within a run, FLOPs are taken as proportional to tokens.
    """
    if run.training is None:
        return 0.0
    trained = run.training
    end = run.tokens_seen if tokens is None else min(tokens, run.tokens_seen)
    own = run.tokens_seen - trained.start_tokens
    spent = trained.cost.flops * ((end - trained.start_tokens) / own if own > 0 else 0.0)
    parent = runs.get(run.parent) if run.parent is not None and run.kind != "trajectory" else None
    return spent + (flops_to(parent, runs, trained.start_tokens) if parent is not None else 0.0)


def domain_share(run: RunRecord, domain_sources: frozenset[str]) -> float | None:
    """The share of the rows a run drew since the base that are domain text; None if its record has no mixtures."""
    mixes = run.training.mixes if run.training is not None else ()
    rows = sum(mix.rows for mix in mixes)
    if not rows:
        return None
    return sum(mix.rows * weight for mix in mixes for name, weight in mix.weights.items() if name in domain_sources) / rows
