"""The wire format of protocol buffers, as far as files of numbers need it: fields of a message, and packed numbers.

https://protobuf.dev/programming-guides/encoding. Only lengths that fit into the message are believed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from resight.types import Float32

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST_VARINT = 10  # bytes


def fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, wire type and content of each field: 4 or 8 bytes, the bytes themselves, or those of a varint.

    Raises `ValueError` when the bytes are no message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == BYTES:
            length, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        elif kind == VARINT:
            length = _varint(message, at)[1] - at
        else:
            raise ValueError(f"a field is of wire type {kind}, which is not in use")
        if not number or length > len(message) - at:
            raise ValueError("a field is longer than its message")
        yield number, kind, message[at : at + length]
        at += length


def number(content: memoryview) -> float:
    """A 32-bit float. Raises `ValueError` for other content."""
    if len(content) != 4:
        raise ValueError(f"a number has {len(content)} bytes instead of 4")
    return float(struct.unpack("<f", content)[0])


def numbers(message: memoryview, wanted: int) -> Float32:
    """The 32-bit floats of field `wanted`, packed or one at a time, (n,). Raises `ValueError` for other content."""
    parts = [content for found, kind, content in fields(message) if found == wanted and kind in (BYTES, FIXED32)]
    joined = b"".join(parts)
    if len(joined) % 4:
        raise ValueError(f"{len(joined)} bytes are no 32-bit floats")
    return np.frombuffer(joined, "<f4").astype(np.float32)


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = 0
    for shift in range(MOST_VARINT):
        if at + shift >= len(message):
            raise ValueError("a number is cut off")
        byte = message[at + shift]
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, at + shift + 1
    raise ValueError("a number has more than 10 bytes")
