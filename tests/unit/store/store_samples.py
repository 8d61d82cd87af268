"""Small collections of made-up photos, whose features are random bytes known from their row."""

from __future__ import annotations

import random
from collections.abc import Sequence

from resight.store.records import Photo, images_batch, local_batch
from resight.store.writer import Writer


def packed_of(row: int) -> bytes:
    """The features every test stores for `row`."""
    return random.Random(row).randbytes(10 + row % 50)


def count_of(row: int) -> int:
    return row % 10


def photo_of(row: int, id_: str, error: str | None = None) -> Photo:
    return Photo(
        row=row,
        id=id_,
        path=f"/photos/{id_}",
        root="/photos",
        sha256=f"{row:064x}",
        size=row,
        mtime_ns=row,
        width=4,
        height=3,
        error_kind=error,
        error=error and f"it is {error}",
    )


def append(writer: Writer, ids: Sequence[str], broken: Sequence[str] = ()) -> list[int]:
    """Append photos of these ids, those of `broken` without features; their rows."""
    rows = list(range(writer.next_row, writer.next_row + len(ids)))
    photos = [photo_of(row, id_, "empty" if id_ in broken else None) for row, id_ in zip(rows, ids, strict=True)]
    good = [photo.row for photo in photos if photo.error_kind is None]
    writer.append_photos(
        images_batch(photos), local_batch(good, [count_of(r) for r in good], [packed_of(r) for r in good])
    )
    return rows
