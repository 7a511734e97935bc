import random

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.data.dedup import buckets
from cpt_ray.data.dedup.buckets import ALL_PAIRS, REPRESENTATIVES, Duplicates, Similar, duplicates
from cpt_ray.data.dedup.signatures import KEY_SCHEMA
from cpt_ray.data.words import Hashes


def keys(*rows: tuple[int, int, int]) -> pa.Table:
    """Rows of (key, document, exact hash); a document's exact row has its exact hash as the key."""
    return pa.table([list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []], schema=KEY_SCHEMA)


def alike(*groups: set[int]) -> buckets.Load:
    """Documents are similar if they are in the same group."""

    def load(documents: Hashes) -> Similar:
        known = set(documents.tolist())

        def similar(first: Hashes, second: Hashes) -> np.ndarray:
            assert known >= {*first.tolist(), *second.tolist()}
            pairs = zip(first.tolist(), second.tolist(), strict=True)
            return np.array([any({a, b} <= group for group in groups) for a, b in pairs], dtype=np.bool_)

        return similar

    return load


EVERYONE = set(range(1000))


def test_documents_under_a_band_are_joined_only_if_they_are_similar() -> None:
    table = keys((7, 1, 101), (7, 2, 102), (7, 3, 103), (8, 9, 109))
    found = duplicates(table, alike({1, 3}))
    assert found.pairs.tolist() == [[1, 3]]
    assert (found.candidates, found.left) == (3, 0)
    # Control: a comparison that accepts everything joins all documents that share a band.
    assert duplicates(table, alike(EVERYONE)).pairs.tolist() == [[1, 2], [1, 3], [2, 3]]


def test_documents_of_one_text_are_joined_without_a_comparison_and_one_stands_for_them() -> None:
    table = keys((55, 4, 55), (55, 2, 55), (55, 8, 55), (7, 4, 55), (7, 2, 55), (7, 8, 55), (7, 5, 60), (60, 5, 60))
    found = duplicates(table, alike({2, 5}))
    assert found.pairs.tolist() == [[2, 4], [2, 5], [2, 8]]
    assert found.repeats.tolist() == [4, 8]
    assert found.candidates == 1


def test_a_pair_that_shares_many_bands_is_compared_once() -> None:
    found = duplicates(keys(*((key, document, 100 + document) for key in range(5) for document in (1, 2))), alike({1, 2}))
    assert (found.pairs.tolist(), found.candidates) == ([[1, 2]], 1)


def test_no_keys_make_no_pairs() -> None:
    found = duplicates(keys(), alike(EVERYONE))
    assert (found.pairs.shape, len(found.repeats), found.candidates) == ((0, 2), 0, 0)


def test_a_crowded_bucket_finds_its_groups_at_a_bounded_cost() -> None:
    count = 2000
    groups = [set(range(start, count, 5)) for start in range(5)]
    found = duplicates(keys(*((7, document, 10_000 + document) for document in range(count))), alike(*groups))
    assert found.pairs.tolist() == sorted([start, other] for start in range(5) for other in range(start + 5, count, 5))
    assert found.left == 0
    assert found.candidates < 5 * count < count * (count - 1) / 2


def test_what_a_crowded_bucket_leaves_uncompared_is_counted() -> None:
    count = 3 * ALL_PAIRS
    found = duplicates(keys(*((7, document, 100 + document) for document in range(count))), alike())
    assert found.left == count - REPRESENTATIVES
    assert found.candidates == sum(count - 1 - place for place in range(REPRESENTATIVES))


def test_a_document_alone_in_its_bands_is_never_loaded() -> None:
    loaded: list[list[int]] = []

    def load(documents: Hashes) -> Similar:
        loaded.append(documents.tolist())
        return alike(EVERYONE)(documents)

    duplicates(keys((7, 1, 101), (8, 2, 102), (9, 3, 103), (9, 4, 104), (5, 6, 5), (5, 7, 5)), load)
    assert loaded == [[3, 4]]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    draw = random.Random(seed)
    rows = [(draw.randrange(6), document, 100 + document // 2) for document in range(60) for _ in range(2)]
    rows += [(100 + document // 2, document, 100 + document // 2) for document in range(60)]
    groups = [set(draw.sample(range(60), 12)) for _ in range(4)]
    expected = duplicates(keys(*rows), alike(*groups))
    assert len(expected.pairs) > 30
    draw.shuffle(rows)
    found = duplicates(keys(*rows), alike(*groups))
    for name in Duplicates.__dataclass_fields__:
        assert np.array_equal(getattr(found, name), getattr(expected, name))
