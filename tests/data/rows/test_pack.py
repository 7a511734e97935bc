import doctest
import itertools
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_ray.data.rows.pack import pack, permute
from cpt_ray.records import PackedPieces

LENGTHS = st.lists(st.integers(0, 70), max_size=60)
CAPACITY = st.integers(1, 40)
STRATEGY = st.sampled_from(["best_fit", "concat"])

Piece = tuple[int, int, int, int]


def rows_of(pieces: PackedPieces) -> list[list[Piece]]:
    """Rows as lists of (document, offset, tokens, part)."""
    flat = list(zip(*(column.tolist() for column in pieces.columns()), strict=True))
    borders = pieces.borders.tolist()
    return [flat[start:end] for start, end in itertools.pairwise(borders)]


def sizes_of(pieces: PackedPieces) -> list[list[int]]:
    return [[piece[2] for piece in row] for row in rows_of(pieces)]


def plain_best_fit(lengths: list[int], capacity: int) -> list[list[Piece]]:
    """Best-fit decreasing, one piece at a time, with a scan over all rows: the definition."""
    pieces = [
        (document, start, min(capacity, length - start), start // capacity)
        for document, length in enumerate(lengths)
        for start in range(0, length, capacity)
    ]
    rows: list[list[Piece]] = []
    room: dict[int, int] = {}  # free space by row, in the order in which rows reached it
    for piece in sorted(pieces, key=lambda piece: -piece[2]):
        fitting = [row for row in room if room[row] >= piece[2]]
        least = min((room[row] for row in fitting), default=None)
        if least is None:
            row, left = len(rows), capacity
            rows.append([])
        else:
            row, left = [row for row in fitting if room[row] == least][-1], least
        rows[row].append(piece)
        room.pop(row, None)
        room[row] = left - piece[2]
    return rows


def test_the_worked_example_of_ding_et_al_and_others_like_it() -> None:
    assert sizes_of(pack([8, 6, 6, 4, 3], 8, "best_fit")) == [[8], [6], [6], [4, 3]]
    # A row with exactly enough free space is preferred to a roomier one, and nothing that fits a row is cut.
    assert sizes_of(pack([5, 4, 3, 4], 8, "best_fit")) == [[5, 3], [4, 4]]
    assert sizes_of(pack([6, 5, 3, 2], 8, "best_fit")) == [[6, 2], [5, 3]]


def test_a_long_document_becomes_full_rows_and_a_remainder_that_is_packed_like_any_other() -> None:
    assert rows_of(pack([20], 8, "best_fit")) == [[(0, 0, 8, 0)], [(0, 8, 8, 1)], [(0, 16, 4, 2)]]
    assert rows_of(pack([10, 6], 8, "best_fit")) == [[(0, 0, 8, 0)], [(1, 0, 6, 0), (0, 8, 2, 1)]]


def test_concat_cuts_at_row_ends_only() -> None:
    assert rows_of(pack([5, 0, 6], 8, "concat")) == [[(0, 0, 5, 0), (2, 0, 3, 0)], [(2, 3, 3, 1)]]
    assert rows_of(pack([8, 8, 17], 8, "concat")) == [
        [(0, 0, 8, 0)],
        [(1, 0, 8, 0)],
        [(2, 0, 8, 0)],
        [(2, 8, 8, 1)],
        [(2, 16, 1, 2)],
    ]


@pytest.mark.parametrize("strategy", ["best_fit", "concat"])
@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_nothing_packs_into_no_rows(lengths: list[int], strategy: str) -> None:
    assert rows_of(pack(lengths, 8, strategy)) == []


@pytest.mark.parametrize("capacity", [2000, 2048, 1, 7])
def test_rows_of_any_length_hold_all_tokens(capacity: int) -> None:
    lengths = np.random.default_rng(0).lognormal(6, 1.3, 500).astype(int)
    for strategy in ("best_fit", "concat"):
        pieces = pack(lengths, capacity, strategy)
        used = np.add.reduceat(pieces.tokens, pieces.borders[:-1])
        assert used.max() <= capacity
        assert used.sum() == lengths.sum()


@settings(max_examples=300)
@given(lengths=LENGTHS, capacity=CAPACITY, strategy=STRATEGY)
def test_every_token_is_in_exactly_one_row_and_no_row_overflows(lengths: list[int], capacity: int, strategy: str) -> None:
    rows = rows_of(pack(lengths, capacity, strategy))
    assert all(0 < sum(piece[2] for piece in row) <= capacity for row in rows)
    seen = Counter((document, offset + i) for row in rows for document, offset, tokens, _ in row for i in range(tokens))
    assert seen == Counter((document, i) for document, length in enumerate(lengths) for i in range(length))
    for document in range(len(lengths)):
        offsets = [(piece[3], piece[1]) for row in rows for piece in row if piece[0] == document]
        assert sorted(offsets) == sorted(offsets, key=lambda pair: pair[1])
        assert sorted(part for part, _ in offsets) == list(range(len(offsets)))


@given(lengths=LENGTHS, capacity=CAPACITY)
def test_best_fit_cuts_only_documents_longer_than_a_row(lengths: list[int], capacity: int) -> None:
    cut = {piece[0] for row in rows_of(pack(lengths, capacity, "best_fit")) for piece in row if piece[3]}
    assert cut == {document for document, length in enumerate(lengths) if length > capacity}


@settings(max_examples=400)
@given(lengths=LENGTHS, capacity=CAPACITY)
def test_placing_equal_pieces_together_is_best_fit_decreasing_piece_by_piece(lengths: list[int], capacity: int) -> None:
    found, plain = rows_of(pack(lengths, capacity, "best_fit")), plain_best_fit(lengths, capacity)
    assert found == plain or len(found) < len(plain)


def test_rows_that_best_fit_leaves_with_room_are_filled_again_where_that_saves_a_row() -> None:
    lengths = [8, 7, 3, 2, 2, 2]
    assert [[piece[2] for piece in row] for row in plain_best_fit(lengths, 12)] == [[8, 3], [7, 2, 2], [2]]
    assert sizes_of(pack(lengths, 12, "best_fit")) == [[8, 2, 2], [7, 3, 2]]


def test_a_unit_without_short_documents_wastes_less_than_a_twentieth_of_a_percent() -> None:
    lengths = 71 + np.random.default_rng(0).lognormal(6, 1.2, 20_000).astype(int)
    pieces = pack(lengths, 2048, "best_fit")
    assert 1 - lengths.sum() / (pieces.num_rows * 2048) < 0.0005


@given(lengths=LENGTHS, capacity=CAPACITY)
def test_concat_fills_every_row_but_the_last(lengths: list[int], capacity: int) -> None:
    used = [sum(row) for row in sizes_of(pack(lengths, capacity, "concat"))]
    assert used[:-1] == [capacity] * (len(used) - 1)


def test_rows_are_permuted_by_seed_source_and_unit() -> None:
    packed = pack(list(range(1, 50)), 50, "best_fit")
    rows = rows_of(packed)
    first = rows_of(permute(packed, seed=0, source="law", unit="law-00000"))
    assert first == rows_of(permute(packed, seed=0, source="law", unit="law-00000"))
    assert sorted(first) == sorted(rows)
    assert first != rows
    assert first != rows_of(permute(packed, seed=1, source="law", unit="law-00000"))
    assert first != rows_of(permute(packed, seed=0, source="law", unit="law-00001"))


def test_the_worked_example_of_the_module_is_what_it_does():
    tried = doctest.testmod(sys.modules[pack.__module__])
    assert (tried.failed, tried.attempted > 1) == (0, True)
