"""Fields of a protobuf message, for the few that have no stubs here, or come in such numbers that these are too slow.

The encoding is protobuf's (developers.google.com/protocol-buffers/docs/encoding): varints, and bytes with a length.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins here, and where the next field begins. IndexError beyond the end."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("a number longer than 64 bits")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field, in order. ValueError or IndexError where it is no message."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = varint(data, at)
            case 1 | 5 as kind:
                size = 8 if kind == FIXED64 else 4
                value, at = int.from_bytes(data[at : at + size], "little"), at + size
            case 2:
                length, at = varint(data, at)
                value, at = data[at : at + length], at + length
            case kind:
                raise ValueError(f"no field has the type {kind}")
        if at > len(data):
            raise ValueError("a field reaches beyond its message")
        yield tag >> 3, value


def numbers(data: bytes) -> dict[int, int]:
    """The last value of each number field; a missing one is left out, and means 0."""
    return {field: value for field, value in fields(data) if isinstance(value, int)}


def texts(data: bytes) -> dict[int, bytes]:
    """The last value of each field of bytes."""
    return {field: value for field, value in fields(data) if isinstance(value, bytes)}


def encoded(*values: int) -> bytes:
    """A message of number fields only: 1, 2, 3 … in order."""
    return b"".join(bytes([field << 3]) + as_varint(value) for field, value in enumerate(values, start=1))


def as_varint(number: int) -> bytes:
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
