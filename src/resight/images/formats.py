"""Image formats by their first bytes: what a file is, and the size that its header declares."""

from __future__ import annotations

import struct
from typing import BinaryIO

HEADER_BYTES = 64
"""How much of a file `sniff` needs to see."""

_READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif")
_CONTAINERS = (".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif")
# Photos that are not read: known so that a scan hands them on to be reported, instead of passing them over in silence.
_NOT_READ = (".jxl", ".jp2", ".j2k", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef")
EXTENSIONS = frozenset(_READ + _CONTAINERS + _NOT_READ)
"""Lower-case endings of names that promise a photo, read by resight or not."""

_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}
_JPEG_SIZE_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SEGMENTS = 1000
_TIFF_SIDES = (256, 257)


def sniff(header: bytes) -> str | None:
    """The format of a file that starts with `header`, or None when it is no image that resight knows.

    One of `jpeg`, `png`, `gif`, `webp`, `tiff`, `bmp`, `avif`, `heic`. Pass the first `HEADER_BYTES` bytes.
    """
    if header[:2] == b"\xff\xd8" and header[2:3] in (b"", b"\xff"):
        return "jpeg"
    if header[:4] == b"\x89PNG":
        return "png"
    if header[:4] == b"GIF8":
        return "gif"
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "webp"
    if header[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if header[:2] == b"BM" and int.from_bytes(header[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    return _sniff_container(header) if header[4:8] == b"ftyp" else None


def _sniff_container(header: bytes) -> str | None:
    """AVIF and HEIC share the container of MP4: the brands in its first box tell them apart."""
    end = min(int.from_bytes(header[:4], "big"), len(header))
    brands = {header[8:12]} | {header[at : at + 4] for at in range(16, end, 4)}
    if brands & {b"avif", b"avis"}:
        return "avif"
    return "heic" if brands & _HEIC_BRANDS or header[8:12] in (b"mif1", b"msf1") else None


def declared_size(stream: BinaryIO, kind: str) -> tuple[int, int] | None:
    """Width and height that the header of a PNG, GIF, BMP, JPEG or TIFF declares; None when it ends too early.

    Pillow refuses an image without pixels as if it were no image at all: this tells the two apart.
    """
    stream.seek(0)
    header = stream.read(HEADER_BYTES)
    try:
        if kind == "png":
            return _pair(">II", header, 16)
        if kind == "gif":
            return _pair("<HH", header, 6)
        if kind == "bmp":
            short = int.from_bytes(header[14:18], "little") == 12
            return _pair("<HH" if short else "<ii", header, 18)
        if kind == "jpeg":
            return _jpeg_size(stream)
        return _tiff_size(stream, header) if kind == "tiff" else None
    except struct.error:
        return None


def _pair(layout: str, data: bytes, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(layout, data, offset)
    return first, second


def _jpeg_size(stream: BinaryIO) -> tuple[int, int] | None:
    """Walk the segments up to the frame header."""
    stream.seek(2)
    for _ in range(_JPEG_SEGMENTS):
        _, marker, length = struct.unpack(">BBH", stream.read(4))
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack(">xHH", stream.read(5))
            return width, height
        stream.seek(length - 2, 1)
    return None


def _tiff_size(stream: BinaryIO, header: bytes) -> tuple[int, int] | None:
    """Read width and height of the first directory of a classic (32-bit) TIFF."""
    order = "<" if header[:2] == b"II" else ">"
    stream.seek(struct.unpack_from(order + "I", header, 4)[0])
    (entries,) = struct.unpack(order + "H", stream.read(2))
    sides: dict[int, int] = {}
    for _ in range(entries):
        tag, kind, _, short, _ = struct.unpack(order + "HHIHH", entry := stream.read(12))
        if tag in _TIFF_SIDES:
            sides[tag] = short if kind == 3 else struct.unpack_from(order + "I", entry, 8)[0]
    return (sides[256], sides[257]) if len(sides) == 2 else None
