"""A file that long work appends its finished blocks to, so that a run that was killed goes on where it was.

The file starts with a line that says what the work is; a file of other work starts anew. Every record carries its
length and a checksum, and a record that a kill cut short is dropped, with all behind it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from resight.errors import CollectionError
from resight.regular_files import open_regular
from resight.store.folder import faults

_RECORD = struct.Struct("<QQI")  # block, bytes of content, crc32 of both and the content
_MAGIC = b"resight blocks 1 "
LONGEST_START = 4096  # bytes of the line that says what the work is


class BlockLog:
    """Finished blocks of the work called `key`, a line of text, in the file `path`; one writer at a time.

    Raises `CollectionError` when the disk refuses.
    """

    def __init__(self, path: str | os.PathLike[str], key: str) -> None:
        self._path = Path(path)
        self._start = _MAGIC + key.encode() + b"\n"
        with faults("write", self._path):
            self._path.parent.mkdir(exist_ok=True)
            end = self._scan()
            with open(self._path, "ab") as file:
                file.truncate(end)
                if end == 0:
                    file.write(self._start)

    def finished(self) -> Iterator[tuple[int, bytes]]:
        """The number and content of every finished block, in the order in which they were finished."""
        with faults("read", self._path), open_regular(self._path) as file:
            file.seek(len(self._start))
            while (record := _read(file, os.path.getsize(self._path) - file.tell())) is not None:
                yield record

    def append(self, block: int, content: bytes) -> None:
        """Write a finished block. It is on disk when this returns."""
        sizes = struct.pack("<QQ", block, len(content))
        record = sizes + struct.pack("<I", zlib.crc32(sizes + content)) + content
        with faults("write", self._path), open(self._path, "ab") as file:
            file.write(record)
            file.flush()
            os.fsync(file.fileno())

    def _scan(self) -> int:
        """Where the last whole record ends; 0 when the file is not there or is of other work."""
        if not self._path.exists():
            return 0
        size = os.path.getsize(self._path)
        with open_regular(self._path) as file:
            if file.read(len(self._start)) != self._start:
                return 0
            end = file.tell()
            while _read(file, size - end) is not None:
                end = file.tell()
        return end


def check_blocks(path: str | os.PathLike[str]) -> None:
    """Raises `CollectionError` when the file is not one of `BlockLog`, or a record is not what was written; a last one
    that a kill cut short is none.
    """
    with faults("read", Path(path)), open_regular(path) as file:
        size = os.path.getsize(path)
        sound = file.readline(LONGEST_START).startswith(_MAGIC)
        end = file.tell()
        while sound and _read(file, size - end) is not None:
            end = file.tell()
        file.seek(end)
        head = file.read(_RECORD.size)
        if sound and len(head) == _RECORD.size:  # a record that could not be read, although it may be there whole
            sound = _RECORD.unpack(head)[1] > size - file.tell()
    if not sound:
        raise CollectionError(f"{path} is damaged (it holds a record that was never written)")


def _read(file: BinaryIO, left: int) -> tuple[int, bytes] | None:
    """The next record of a file with `left` bytes, None where there is no whole one."""
    head = file.read(_RECORD.size)
    if len(head) < _RECORD.size:
        return None
    block, length, checksum = _RECORD.unpack(head)
    if length > left - _RECORD.size:
        return None
    content = file.read(length)
    return (block, content) if zlib.crc32(head[:16] + content) == checksum else None
