"""Which arms of a seed drew the rows of a source in the same order: what makes a comparison between them paired.

In: run records. Out: sentences. Derived from the names of the sequences in the records, so it says what runs did.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.records import RunRecord


def pairings(runs: Sequence[RunRecord]) -> list[str]:
    """One sentence for each model and set of sources that arms share, with the seeds for which it holds.

    Args:
        runs: All runs of a study.
    """
    arms: dict[tuple[str, int, str, str], dict[str, None]] = {}
    drawn_by: dict[tuple[str, int], dict[str, None]] = {}
    for run in runs:
        if run.training is None or run.arm is None or run.seed is None or not run.training.drawn:
            continue
        drawn_by.setdefault((run.model, run.seed), {})[run.arm] = None
        for one in run.training.drawn:
            arms.setdefault((run.model, run.seed, one.source, one.sequence), {})[run.arm] = None
    sources: dict[tuple[str, int, tuple[str, ...]], list[str]] = {}
    for (model, seed, source, _), sharing in arms.items():
        if len(sharing) > 1:
            sources.setdefault((model, seed, tuple(sharing)), []).append(source)
    seeds: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for (model, seed, who), what in sources.items():
        seeds.setdefault((model, who, tuple(sorted(what))), []).append(seed)
    sentences = [
        f"{model}, seed{'s' if len(found) > 1 else ''} {', '.join(map(str, sorted(found)))}: {', '.join(who)} drew "
        f"{', '.join(what)} in the same order (paired)."
        for (model, who, what), found in seeds.items()
    ]
    paired = {(model, seed, arm) for model, seed, who in sources for arm in who}
    alone = dict.fromkeys(
        f"{model}: {arm} shares no source with another arm, so nothing of its order is paired."
        for (model, seed), found in drawn_by.items()
        for arm in found
        if len(found) > 1 and (model, seed, arm) not in paired
    )
    return [*sentences, *alone]
