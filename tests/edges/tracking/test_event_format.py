"""Event files as bytes."""

from __future__ import annotations

import pytest

from cpt_ray.edges.tracking.event_format import read_records, read_scalar, record, scalar_event, version_event


def scalars_of(data: bytes) -> list[tuple[str, int, float]]:
    return [scalar for event, _ in read_records(data) if (scalar := read_scalar(event)) is not None]


def test_a_flipped_bit_ends_what_is_believed_of_a_file():
    data = record(version_event(1.0)) + record(scalar_event("a", 1 << 40, 1.0, 2.0)) + record(scalar_event("a", 2, 1.0, 2.0))
    assert scalars_of(data) == [("a", 1 << 40, 1.0), ("a", 2, 1.0)]
    spoiled = bytearray(data)
    spoiled[-6] ^= 1
    assert scalars_of(bytes(spoiled)) == [("a", 1 << 40, 1.0)]
    with pytest.raises(ValueError, match="an event ends within a number"):
        read_scalar(b"\x80")
    with pytest.raises(ValueError, match="a field of kind 3"):
        read_scalar(b"\x0b")
