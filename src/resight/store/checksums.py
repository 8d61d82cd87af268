"""Checksums of the files of table `images` and of all scalar indices, which Lance reads without one of its own.

Lance never changes a file that it has written, so the writer adds the new ones behind each commit. What a killed writer
had not added is added by the next; until then it is not checked, and a file that is gone is Lance's to miss. A bucket
has checksums of its own.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from resight.regular_files import open_regular, read_regular
from resight.store.folder import CHECKSUMS, IMAGES, LOCAL, faults, table_uri, write_atomic
from resight.store.remote import remote

FINAL = ("data/*.lance", "_deletions/*", "_versions/*.manifest")  # what is never written twice
FILES = {IMAGES: (*FINAL, "_indices/*/*"), LOCAL: ("_indices/*/*",)}  # features carry checksums of their own
CHUNK = 1 << 20


def record(folder: Path) -> None:
    """Add the checksums of new files and drop those of files that are gone; for the one writer.

    Raises `CollectionError` when the disk refuses.
    """
    if remote(folder) is not None:
        return
    known = _recorded(folder)
    with faults("read", folder):
        sums = {name: known[name] if name in known else _checksum(file) for name, file in _files(folder)}
    if sums != known:
        write_atomic(folder / CHECKSUMS, json.dumps(sums, indent=0, sort_keys=True).encode())


def changed_files(folder: Path) -> list[str]:
    """The files that are not what was written, as paths in `images.lance`, or in the folder where they are of `local`.

    Raises `CollectionError` when one cannot be read.
    """
    if remote(folder) is not None:
        return []
    known = _recorded(folder)
    with faults("read", folder):
        return [name for name, file in _files(folder) if name in known and _checksum(file) != known[name]]


def _recorded(folder: Path) -> dict[str, int]:
    """File -> checksum; nothing where the list is missing or damaged, as it is made again from the files."""
    try:
        content = json.loads(read_regular(folder / CHECKSUMS))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def is_index(name: str) -> bool:
    """Whether a changed file is one of an index, which can be made again."""
    return "_indices" in Path(name).parts


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for name, patterns in FILES.items():
        table = Path(table_uri(folder, name))
        for pattern in patterns:
            for file in sorted(table.glob(pattern)):
                yield file.relative_to(table if name == IMAGES else folder).as_posix(), file


def _checksum(path: Path) -> int:
    total = 0
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            total = zlib.crc32(chunk, total)
    return total
