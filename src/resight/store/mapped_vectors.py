"""Vectors in a file of their own: float16 rows behind a short header, mapped into memory, appended in blocks.

What is mapped is read from disk as it is needed, and shared by all processes that map it: a file of 10^6 x 2048 takes
4.1 GB of disk, and of memory what the system can spare. The header is written last: rows that a killed writer left
behind those it counts are not there.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resight.arrays import as_array, check_finite
from resight.errors import CollectionError, UsageError
from resight.products import longest
from resight.regular_files import check_regular
from resight.store.folder import faults

FORMAT = "resight vectors 1"
HEADER = 4096  # bytes, so that rows start on a page
BLOCK = 8192
Half = NDArray[np.float16]


@dataclass(frozen=True)
class Extent:
    """What a file holds: `count` rows of `dim`, the CRC-32 of their bytes, the length of the `longest`; and the `token`
    of the file, which every new one gets."""

    dim: int
    token: str
    count: int = 0
    crc32: int = 0
    longest: float = 0.0


class MappedVectors:
    """A file of vectors (N, D) float16. `extent` says what it holds, `values` maps it. One writer at a time."""

    def __init__(self, path: str | os.PathLike[str], extent: Extent) -> None:
        self.path, self.extent = Path(path), extent
        self._values = np.empty((0, extent.dim), np.float16)

    @staticmethod
    def create(path: str | os.PathLike[str], dim: int) -> MappedVectors:
        """An empty file in the place of whatever was there. Raises `CollectionError` when the disk refuses."""
        if dim < 1:
            raise UsageError(f"dim={dim}: vectors need at least one dimension")
        made = MappedVectors(path, Extent(dim, secrets.token_hex(8)))
        with faults("write", made.path):
            made.path.parent.mkdir(exist_ok=True)
            partial = made.path.with_name(f"{made.path.name}.{os.getpid()}.part")
            try:
                partial.write_bytes(_header(made.extent))
                os.replace(partial, made.path)
            finally:
                partial.unlink(missing_ok=True)
        return made

    @staticmethod
    def open(path: str | os.PathLike[str]) -> MappedVectors:
        """The vectors of a file. Raises `CollectionError` when it is missing, damaged, shorter than it says or of
        another format; its rows are not read, `check_vectors` does that."""
        opened = MappedVectors(path, _read_extent(Path(path)))
        opened.map()
        return opened

    def __len__(self) -> int:
        return self.extent.count

    @property
    def values(self) -> Half:
        """The rows (N, D), read-only, mapped."""
        return self._values

    def append(self, blocks: Iterable[NDArray[Any]]) -> None:
        """Write blocks of rows (n, D) behind those there are, rounded to float16; all of them or none.

        Memory: one block. Raises `ArrayError` for another width, NaN, infinity and values beyond 65504,
        `CollectionError` when the disk refuses.
        """
        extent = self.extent
        with faults("write", self.path), open(self.path, "r+b") as file:
            file.truncate(_size(extent))  # what a killed writer left
            file.seek(0, os.SEEK_END)
            for block in blocks:
                rows = self._checked(block, extent.count)
                file.write(rows.data)
                crc32 = zlib.crc32(rows.data, extent.crc32)
                length = max(extent.longest, longest(rows))
                extent = replace(extent, count=extent.count + len(rows), crc32=crc32, longest=length)
            _finish(file, extent)
        self.extent = extent
        self.map()

    def rewind(self, extent: Extent) -> None:
        """Take the file for what it was at `extent`, before it grew. Raises `CollectionError` when it never was."""
        if extent.token != self.extent.token or extent.dim != self.extent.dim:
            raise CollectionError(f"{self.path} belongs to another index: build it again")
        if extent.count > self.extent.count:
            raise CollectionError(f"{self.path} holds {self.extent.count} of {extent.count} vectors: build it again")
        self.extent = extent
        self.map()

    def map(self) -> None:
        """Map the rows that `extent` counts. Raises `CollectionError` when the file is shorter."""
        with faults("read", self.path):
            size = os.stat(self.path).st_size
            if size < _size(self.extent):
                held = max(size - HEADER, 0) // (2 * self.extent.dim)
                raise CollectionError(
                    f"{self.path} is cut off: it holds {held} of {self.extent.count} vectors: build it again"
                )
            shape = (self.extent.count, self.extent.dim)
            self._values = (
                np.asarray(np.memmap(self.path, np.float16, "r", HEADER, shape))
                if self.extent.count
                else np.empty(shape, np.float16)
            )

    def _checked(self, block: NDArray[Any], first: int) -> Half:
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            rows: Half = as_array("vectors", block, np.float16, (None, self.extent.dim))
        check_finite("vectors (half precision ends at 65504)", rows, first)
        return rows


def check_vectors(path: str | os.PathLike[str]) -> None:
    """Read a file of vectors whole. Raises `CollectionError` when it is not what was written."""
    vectors, total = MappedVectors.open(path), 0
    for start in range(0, len(vectors), BLOCK):
        total = zlib.crc32(vectors.values[start : start + BLOCK].data, total)
    if total != vectors.extent.crc32:
        raise CollectionError(f"{path} is damaged (its checksum is wrong)")


def _finish(file: BinaryIO, extent: Extent) -> None:
    """Rows first, then the header that counts them."""
    file.flush()
    os.fsync(file.fileno())
    os.pwrite(file.fileno(), _header(extent), 0)


def _size(extent: Extent) -> int:
    return HEADER + 2 * extent.dim * extent.count


def _header(extent: Extent) -> bytes:
    facts = {"format": FORMAT, **asdict(extent)}
    text = json.dumps({**facts, "check": zlib.crc32(json.dumps(facts, sort_keys=True).encode())}).encode()
    return text.ljust(HEADER - 1) + b"\n"


def _read_extent(path: Path) -> Extent:
    """The header of a file, of which nothing is believed: it may be damaged, or written by someone else."""
    try:
        check_regular(path)
        with open(path, "rb") as file:
            text = file.read(HEADER)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read: {error}") from error
    try:
        facts = json.loads(text)
        check = facts.pop("check")
        if zlib.crc32(json.dumps(facts, sort_keys=True).encode()) != check or facts.pop("format") != FORMAT:
            raise ValueError("its header is not what was written")
        extent = Extent(**facts)
        whole = all(isinstance(value, int) for value in (extent.dim, extent.count, extent.crc32))
        if not whole or extent.dim < 1 or extent.count < 0 or not 0 <= extent.longest < math.inf:
            raise ValueError("its header cannot be")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CollectionError(f"{path} is damaged ({error}): build it again") from error
    return extent
