"""Files of local features as DELF's own program writes them."""

from __future__ import annotations

import struct
from typing import Any


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def block(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def delf(features: Any) -> bytes:
    """As `delf.feature_io.WriteToFile` writes them."""
    out = b""
    for (x, y), scale, strength, d in zip(features.xy - 0.5, features.scale, features.strength,
                                          features.descriptors, strict=True):  # fmt: skip
        shape, values = block(1, varint(len(d))), block(1, d.astype("<f4").tobytes())  # DatumShape, FloatList
        datum = block(1, shape) + block(2, values)
        numbers = b"".join(varint(n << 3 | 5) + struct.pack("<f", v)
                           for n, v in ((2, x), (3, y), (4, 16 / scale), (5, 0.0), (6, strength)))  # fmt: skip
        out += block(1, block(1, datum) + numbers)
    return out
