"""Worker task that counts what arms have in common: the packed documents of one clean unit, in every source made from it.

Composed by `derive`. In: the indices of the unit's shards, by source. Out: `shared/` (int64[2, arms, arms]: documents
and tokens). Memory: the names of one unit's documents.

Guarantee: a document counts once for an arm, however many of its sources hold it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cpt_ray.data.rows.shard_index import read_documents_of_shard
from cpt_ray.data.run.units import UnitContext, UnitTask, finish_unit, write_content
from cpt_ray.records import UnitReport


class SharedUnit(UnitTask):
    """Count the documents that arms share: indices by source, in the inputs `shards-SOURCE`, and the sources of each arm."""

    indices: dict[str, str]
    arms: tuple[tuple[str, ...], ...]


def count_shared_unit(task: SharedUnit, context: UnitContext) -> UnitReport:
    """Count a unit's documents and tokens by pair of arms."""
    tokens: dict[str, int] = {}
    members: dict[str, set[str]] = {}
    for source, index in task.indices.items():
        packed = read_documents_of_shard(context.input(f"shards-{source}", index))
        names = packed.identities.to_pylist()
        members[source] = set(names)
        tokens.update(zip(names, packed.tokens.tolist(), strict=True))
    of_arm = [set().union(*(members[source] for source in sources)) for sources in task.arms]
    counts: npt.NDArray[np.int64] = np.array(
        [
            [[len(one & two) for two in of_arm] for one in of_arm],
            [[sum(tokens[name] for name in one & two) for two in of_arm] for one in of_arm],
        ],
        dtype=np.int64,
    )

    def write(path: Path) -> None:
        with path.open("wb") as out:  # np.save would append .npy to a path
            np.save(out, counts, allow_pickle=False)

    entry = write_content(context.root, f"shared/{task.unit}", ".npy", write)
    return finish_unit(task, context, "shared", {"counts": entry})
