"""The photos of a collection as other tools name them: by path below one folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resight.artifacts.inverted_file import features_of
from resight.collection.snapshot import Snapshot
from resight.errors import UsageError
from resight.types import Int64, LocalFeatures

BLOCK = 64  # photos whose features lie in memory at a time: some 40 MB at 1000 features of 128 dimensions


@dataclass(frozen=True, eq=False)
class NamedPhotos:
    """The N readable photos of a collection in order of row: `rows` (N,) int64, `ids`, `names` relative to `folder`
    with `/` between folders, and `sizes` (N, 2) int64 width and height in pixels, after EXIF orientation.
    """

    folder: Path
    rows: Int64
    ids: tuple[str, ...]
    names: tuple[str, ...]
    sizes: Int64

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, rows: Int64) -> Int64:
        """Positions of `rows`, which must be among these."""
        return np.searchsorted(self.rows, rows)


def named_photos(snapshot: Snapshot) -> NamedPhotos:
    """Photos that could be read, with names below the folder that holds them all.

    Raises `UsageError` when there are none, and for paths that are not valid text: no other tool could name them.
    """
    table = snapshot.tables.images(["row", "id", "path_bytes", "width", "height", "error_kind"])
    table = table.filter(table["error_kind"].is_null())
    if not len(table):
        raise UsageError(f"{snapshot.path} holds no readable photos: index some first")
    paths = [os.fsdecode(path) for path in table["path_bytes"].to_pylist()]
    ids = table["id"].to_pylist()
    _refuse([id_ for id_, path in zip(ids, paths, strict=True) if not _is_text(path)], "have paths that are not UTF-8")
    folder = _folder(snapshot, paths)
    names = tuple(os.path.relpath(path, folder).replace(os.sep, "/") for path in paths)
    sizes = np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=1).astype(np.int64)
    return NamedPhotos(Path(folder), table["row"].to_numpy(), tuple(ids), names, sizes)


def without_blanks(photos: NamedPhotos, what: str) -> None:
    """Raise `UsageError` when names hold blanks, for formats that put several names on a line."""
    _refuse([name for name in photos.names if re.search(r"\s", name)], f"hold blanks, which {what} cannot name")


def without_breaks(names: Sequence[str]) -> None:
    """Raise `UsageError` when names hold line breaks, for files with one name a line."""
    _refuse([name for name in names if len(name.splitlines()) > 1 or name != name.strip("\r\n")], "hold line breaks")


def local_features(snapshot: Snapshot, photos: NamedPhotos) -> Iterator[tuple[int, LocalFeatures]]:
    """Position and local features of every photo, `BLOCK` of them in memory. Raises `UsageError` without features."""
    if snapshot.settings.local is None:
        raise UsageError(f"{snapshot.path} keeps no local features: index the photos with a recipe that has them")
    for start in range(0, len(photos), BLOCK):
        yield from enumerate(features_of(snapshot.tables, photos.rows[start : start + BLOCK]), start)


def _folder(snapshot: Snapshot, paths: Sequence[str]) -> str:
    """The folder that was indexed; with several, the deepest one that holds all photos."""
    roots = set(snapshot.tables.images(["root"])["root"].to_pylist())
    common: str = os.path.commonpath(roots)
    if all(path.startswith(os.path.join(common, "")) for path in paths):
        return common
    return os.path.commonpath([os.path.dirname(path) for path in paths])


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(names: Sequence[str], problem: str) -> None:
    if names:
        first = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        raise UsageError(f"{len(names)} photos {problem}: rename {first}")
