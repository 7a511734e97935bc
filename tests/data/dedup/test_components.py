import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.data.dedup.components import (
    both_ways,
    checksum,
    downward,
    histogram,
    large_star,
    partition_of,
    small_star,
    solve,
    unique,
)

EDGES = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)).filter(lambda pair: pair[0] != pair[1]), max_size=25)


def pairs(edges: list[tuple[int, int]]) -> np.ndarray:
    return np.array(edges, dtype=np.uint64).reshape(-1, 2)


def naive(edges: list[tuple[int, int]]) -> list[list[int]]:
    label = {node: node for edge in edges for node in edge}
    for _ in label:
        for a, b in edges:
            label[a] = label[b] = min(label[a], label[b])
    return [[node, root] for node, root in sorted(label.items()) if node != root]


def in_partitions(edges: np.ndarray, partitions: int) -> tuple[np.ndarray, int]:
    """The steps as run by the stages: each on the pairs of one partition, with results exchanged between steps."""

    def split(rows: np.ndarray) -> list[np.ndarray]:
        place = partition_of(rows[:, 0], partitions)
        return [rows[place == number] for number in range(partitions)]

    rows, before, steps = both_ways(edges), None, 0
    while True:
        parts = split(rows)
        found = sum(map(checksum, parts)) % 2**62
        if found == before:
            links = unique(rows[rows[:, 0] > rows[:, 1]])
            return links, steps
        before, steps = found, steps + 1
        large = np.concatenate([large_star(part) for part in parts])
        rows = np.concatenate([both_ways(small_star(part)) for part in split(large)])


@given(EDGES)
def test_components_are_those_of_the_naive_search(edges: list[tuple[int, int]]) -> None:
    assert solve(pairs(edges)).tolist() == naive(edges)


@given(EDGES, st.sampled_from([1, 2, 5]))
def test_steps_over_partitions_find_what_one_process_finds(edges: list[tuple[int, int]], partitions: int) -> None:
    assert in_partitions(pairs(edges), partitions)[0].tolist() == naive(edges)


def test_a_chain_of_a_thousand_documents_takes_few_steps() -> None:
    order = list(range(1000))
    random.Random(0).shuffle(order)
    edges = pairs([(order[place], order[place + 1]) for place in range(999)])
    links, steps = in_partitions(edges, 3)
    assert links.tolist() == [[node, 0] for node in range(1, 1000)]
    assert 2 < steps <= 12


def test_a_checksum_is_of_the_set_of_pairs() -> None:
    edges = pairs([(1, 2), (3, 4), (9, 5)])
    assert checksum(both_ways(edges)) == checksum(both_ways(edges[::-1])) == checksum(downward(np.repeat(edges, 2, axis=0)))
    assert checksum(both_ways(edges)) != checksum(both_ways(edges[:2]))


@pytest.mark.parametrize(("sizes", "expected"), [([], {}), ([2, 2, 3, 4, 5, 9], {"2": 2, "3-4": 2, "5-8": 1, "9-16": 1})])
def test_components_are_counted_in_classes_that_double(sizes: list[int], expected: dict[str, int]) -> None:
    assert histogram(sizes) == expected
