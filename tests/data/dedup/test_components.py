import random

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.data.dedup.components import components, duplicate_edges, verdicts
from cpt_ray.data.dedup.signatures import KEY_SCHEMA


def keys(*rows: tuple[int, int, str]) -> pa.Table:
    columns = [[row[0] for row in rows], [row[1] for row in rows], [row[2].encode().ljust(16, b"_") for row in rows]]
    return pa.table(columns, schema=KEY_SCHEMA)


def pairs(table: pa.Table) -> list[tuple[int, int]]:
    return list(zip(table["first"].to_pylist(), table["second"].to_pylist(), strict=True))


def test_documents_under_a_key_are_joined_to_the_first() -> None:
    table = keys((7, 3, "c"), (7, 1, "a"), (7, 2, "b"), (8, 9, "z"), (9, 2, "b"), (9, 1, "a"))
    assert pairs(duplicate_edges(table)) == [(1, 2), (1, 3)]
    assert duplicate_edges(keys()).num_rows == 0


def naive_components(edges: list[tuple[int, int]]) -> dict[int, int]:
    label = {node: node for edge in edges for node in edge}
    for _ in label:
        for a, b in edges:
            label[a] = label[b] = min(label[a], label[b])
    return label


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=25))
def test_components_are_those_of_the_naive_search(edges: list[tuple[int, int]]) -> None:
    assert components(edges) == naive_components(edges)


def test_the_best_ranked_is_kept_and_the_component_named_by_its_smallest_hash() -> None:
    table = keys((1, 0, "b"), (1, 5, "a"), (2, 5, "a"), (2, 6, "a"), (3, 6, "a"), (3, 9, "c"))
    rows = verdicts([duplicate_edges(table)], lambda document: 0 if document >= 5 else 1).to_pylist()
    assert [(row["document"], row["reason"]) for row in rows] == [
        (0, "near_duplicate"),
        (5, None),
        (6, "exact_duplicate"),
        (9, "near_duplicate"),
    ]
    assert {row["component"] for row in rows} == {b"a".ljust(16, b"_").hex()}


def test_the_order_of_keys_and_partitions_does_not_matter() -> None:
    draw = random.Random(0)
    rows = [(draw.randrange(12), document, f"h{document}") for document in range(30) for _ in range(2)]

    def decide(order: list[tuple[int, int, str]], partitions: int) -> pa.Table:
        parts = [keys(*(row for row in order if row[0] % partitions == p)) for p in range(partitions)]
        draw.shuffle(parts)
        return verdicts([duplicate_edges(part) for part in parts], lambda document: document % 2)

    expected = decide(rows, 1)
    assert expected.num_rows > 10
    for partitions in (1, 3, 5):
        draw.shuffle(rows)
        assert decide(rows, partitions).equals(expected)


def test_no_edges_make_no_verdicts() -> None:
    assert verdicts([], lambda document: 0).num_rows == 0
