"""From shared keys to components of duplicates, and which document of each is kept.

Flow: part of stage `near_duplicates`. Key tables, one partition of the key space at a time -> `duplicate_edges` (worker) ->
`components` and `verdicts` (driver). Columns out: `document`, `component`, `reason` (null for the kept one), for documents
that have a duplicate; all others are components of their own.

Memory: a worker holds 32 bytes per key of its partition. The driver holds about 300 bytes per document that has a duplicate,
nothing for the others: proportional to duplicates, not to documents.

Guarantee: the result depends on the set of keys only, not on the order of units, partitions or edges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa

EDGE_SCHEMA = pa.schema(
    [("first", pa.uint64()), ("second", pa.uint64()), ("first_exact", pa.binary(16)), ("second_exact", pa.binary(16))]
)
VERDICT_SCHEMA = pa.schema([("document", pa.uint64()), ("component", pa.string()), ("reason", pa.string())])


def duplicate_edges(keys: pa.Table) -> pa.Table:
    """Join documents that share a key: each to the first document under that key.

    A star per key joins the same component as all pairs would, with linearly many edges; O(n log n) for n keys.

    Args:
        keys: All rows of one partition of the key space.

    Returns:
        A table of `EDGE_SCHEMA`, each pair once, sorted.
    """
    key, document = keys["key"].to_numpy(), keys["document"].to_numpy()
    order = np.lexsort((document, key))
    key, document = key[order], document[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.concatenate([starts, [len(key)]]))
    head = np.repeat(starts, sizes)
    joined = np.flatnonzero(document[head] != document)
    pairs = np.stack([document[head[joined]], document[joined]], axis=1)
    _, unique = np.unique(pairs, axis=0, return_index=True)
    first, second = order[head[joined[unique]]], order[joined[unique]]
    columns = [keys["document"].take(first), keys["document"].take(second)]
    return pa.table([*columns, keys["exact"].take(first), keys["exact"].take(second)], schema=EDGE_SCHEMA)


def components(edges: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Union-find: map every document that stands in an edge to the smallest document it is joined with.

    Path halving and union towards the smaller root; near-linear in the edges.
    """
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for first, second in edges:
        a, b = root(first), root(second)
        if a != b:
            parent[max(a, b)] = min(a, b)
    return {node: root(node) for node in parent}


def verdicts(edge_tables: Iterable[pa.Table], priority: Callable[[int], int]) -> pa.Table:
    """Choose which document of each component is kept.

    Args:
        edge_tables: Tables of `EDGE_SCHEMA`, of all partitions, in any order; each is read once.
        priority: Rank of a document reference; the smallest is kept, ties go to the smaller reference.

    Returns:
        A table of `VERDICT_SCHEMA`, sorted by document. The component is named by the smallest exact hash of its members; a
        dropped document is an `exact_duplicate` of a member that ranks before it, else a `near_duplicate`.
    """
    exact: dict[int, bytes] = {}

    def pairs() -> Iterable[tuple[int, int]]:
        for table in edge_tables:
            first, second = table["first"].to_pylist(), table["second"].to_pylist()
            exact.update(zip(first, table["first_exact"].to_pylist(), strict=True))
            exact.update(zip(second, table["second_exact"].to_pylist(), strict=True))
            yield from zip(first, second, strict=True)

    members: dict[int, list[int]] = defaultdict(list)
    for document, root in components(pairs()).items():
        members[root].append(document)
    rows: list[tuple[int, str, str | None]] = []
    for group in members.values():
        name = min(exact[document] for document in group).hex()
        seen: set[bytes] = set()
        for place, document in enumerate(sorted(group, key=lambda document: (priority(document), document))):
            repeated = "exact_duplicate" if exact[document] in seen else "near_duplicate"
            rows.append((document, name, repeated if place else None))
            seen.add(exact[document])
    rows.sort()
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]
    return pa.table(columns, schema=VERDICT_SCHEMA)
