from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.data.pack import Piece, pack, permute

LENGTHS = st.lists(st.integers(0, 70), max_size=60)
CAPACITY = st.integers(1, 40)


def slow_best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    pieces = [min(capacity, length - start) for length in lengths for start in range(0, length, capacity)]
    for piece in sorted(pieces, reverse=True):
        fitting = [row for row in rows if sum(row) + piece <= capacity]
        target = max(fitting, key=sum) if fitting else None
        if target is None:
            target = []
            rows.append(target)
        target.append(piece)
    return rows


def test_the_worked_example_of_ding_et_al() -> None:
    rows = pack([8, 6, 6, 4, 3], 8, "best_fit")
    assert [[piece.tokens for piece in row] for row in rows] == [[8], [6], [6], [4, 3]]


def test_a_long_document_becomes_full_rows_and_a_remainder() -> None:
    assert pack([20], 8, "best_fit") == [[Piece(0, 0, 8, 0)], [Piece(0, 8, 8, 1)], [Piece(0, 16, 4, 2)]]


def test_concat_cuts_at_row_ends_only() -> None:
    assert pack([5, 6], 8, "concat") == [[Piece(0, 0, 5, 0), Piece(1, 0, 3, 0)], [Piece(1, 3, 3, 1)]]


@given(lengths=LENGTHS, capacity=CAPACITY, strategy=st.sampled_from(["best_fit", "concat"]))
def test_every_token_is_in_exactly_one_row_and_no_row_overflows(lengths: list[int], capacity: int, strategy: str) -> None:
    rows = pack(lengths, capacity, strategy)
    assert all(0 < sum(piece.tokens for piece in row) <= capacity for row in rows)
    seen = Counter((p.document, p.offset + i) for row in rows for p in row for i in range(p.tokens))
    assert seen == Counter((document, i) for document, length in enumerate(lengths) for i in range(length))


@given(lengths=LENGTHS, capacity=CAPACITY)
def test_best_fit_cuts_only_documents_longer_than_a_row(lengths: list[int], capacity: int) -> None:
    cut = {piece.document for row in pack(lengths, capacity, "best_fit") for piece in row if piece.part}
    assert cut == {document for document, length in enumerate(lengths) if length > capacity}


@given(lengths=LENGTHS, capacity=CAPACITY)
def test_best_fit_fills_rows_like_the_slow_reference(lengths: list[int], capacity: int) -> None:
    fast = sorted(sum(piece.tokens for piece in row) for row in pack(lengths, capacity, "best_fit"))
    assert fast == sorted(map(sum, slow_best_fit(lengths, capacity)))


def test_rows_are_permuted_by_seed_source_and_unit() -> None:
    rows = pack(list(range(1, 50)), 50, "best_fit")
    first = permute(rows, seed=0, source="law", unit="law-00000")
    assert first == permute(rows, seed=0, source="law", unit="law-00000")
    assert sorted(first) == sorted(rows)
    assert first != rows
    assert first != permute(rows, seed=1, source="law", unit="law-00000")
    assert first != permute(rows, seed=0, source="law", unit="law-00001")
