"""TensorBoard's event files: scalars as records, and back.

A file is a sequence of records (TFRecord: length, checksum of the length, data, checksum of the data), each an `Event` of
TensorFlow's `event.proto`. Seven fields of it are all that a scalar needs, so no package is: a package's writer starts another
file at each start and cannot say what an earlier one wrote, and a mirror has to. Source: tensorflow/core/util/event.proto,
tensorflow/core/lib/io/record_writer.h. Cost: 0.1 ms a point, most of it the checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), reversed."""
_MASK_DELTA = 0xA282EAD8
_HEAD, _CHECK = struct.Struct("<QI"), struct.Struct("<I")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WALL_TIME, _STEP, _VERSION, _SUMMARY, _SESSION = 1, 2, 3, 5, 7
_SUMMARY_VALUE, _TAG, _SIMPLE_VALUE = 1, 1, 2
_START = 1


def version_event(time_s: float) -> bytes:
    """What every file begins with."""
    return _field(_WALL_TIME, _FIXED64, struct.pack("<d", time_s)) + _field(_VERSION, _BYTES, b"brain.Event:2")


def start_event(time_s: float) -> bytes:
    """What has readers that follow a folder forget the points of a file that this one replaces."""
    return _field(_WALL_TIME, _FIXED64, struct.pack("<d", time_s)) + _field(
        _SESSION, _BYTES, _field(1, _VARINT, _varint(_START))
    )


def scalar_event(tag: str, step: int, value: float, time_s: float) -> bytes:
    """A point of a curve."""
    scalar = _field(_TAG, _BYTES, tag.encode()) + _field(_SIMPLE_VALUE, _FIXED32, struct.pack("<f", value))
    return (
        _field(_WALL_TIME, _FIXED64, struct.pack("<d", time_s))
        + _field(_STEP, _VARINT, _varint(step))
        + _field(_SUMMARY, _BYTES, _field(_SUMMARY_VALUE, _BYTES, scalar))
    )


def read_scalar(event: bytes) -> tuple[str, int, float] | None:
    """Tag, step and value; None for an event of another kind.

    Raises:
        ValueError: If it is none.
    """
    fields = dict(_fields(event))
    if _SUMMARY not in fields:
        return None
    scalar = dict(_fields(dict(_fields(fields[_SUMMARY]))[_SUMMARY_VALUE]))
    step = int.from_bytes(fields.get(_STEP, b"\0"), "little")
    return scalar[_TAG].decode(), step, struct.unpack("<f", scalar[_SIMPLE_VALUE])[0]


def record(data: bytes) -> bytes:
    """An event as it is in a file."""
    length = struct.pack("<Q", len(data))
    return length + _CHECK.pack(_masked_crc(length)) + data + _CHECK.pack(_masked_crc(data))


def read_records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The whole records of a file and where each ends; ends at one that was cut short or is damaged."""
    place = 0
    while place + _HEAD.size <= len(data):
        length, check = _HEAD.unpack_from(data, place)
        begin, end = place + _HEAD.size, place + _HEAD.size + length
        if check != _masked_crc(data[place : place + 8]) or end + _CHECK.size > len(data):
            return
        if _CHECK.unpack_from(data, end)[0] != _masked_crc(data[begin:end]):
            return
        place = end + _CHECK.size
        yield data[begin:end], place


def _field(number: int, kind: int, data: bytes) -> bytes:
    length = _varint(len(data)) if kind == _BYTES else b""
    return _varint(number << 3 | kind) + length + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if place >= len(data):
            raise ValueError("an event ends within a number")
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not data[place - 1] & 0x80:
            return value, place


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field of a message; of a number its bytes, the lowest first."""
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        if key & 7 == _VARINT:
            value, place = _read_varint(data, place)
            yield key >> 3, value.to_bytes(8, "little")
            continue
        if key & 7 == _BYTES:
            length, place = _read_varint(data, place)
        elif key & 7 in (_FIXED64, _FIXED32):
            length = 8 if key & 7 == _FIXED64 else 4
        else:
            raise ValueError(f"an event has a field of kind {key & 7}")
        yield key >> 3, data[place : place + length]
        place += length


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


_TABLE = _table()


def _masked_crc(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + _MASK_DELTA) & 0xFFFFFFFF
