"""Words that people give to photos: checked, set on many photos in one commit, and counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from resight.errors import UsageError
from resight.store.records import escape_path
from resight.store.tables import Tables
from resight.store.writer import Writer
from resight.types import Int64

LONGEST = 100  # characters of a tag
MOST = 100  # tags of one photo


def checked_tags(tags: Sequence[str]) -> list[str]:
    """`tags` without spaces around them, each once, sorted.

    Raises `UsageError` for one that is empty, longer than `LONGEST`, or holds signs that cannot be printed.
    """
    if isinstance(tags, str):
        raise UsageError(f"tags are {tags!r}: give a list of them")
    for tag in tags:
        if not (tag.strip() and tag.strip().isprintable() and len(tag.strip()) <= LONGEST):
            raise UsageError(f"{tag[: LONGEST + 1]!r} is no tag: give 1 to {LONGEST} printable characters")
    return sorted({tag.strip() for tag in tags})


def change_tags(writer: Writer, rows: Int64, add: Sequence[str], remove: Sequence[str]) -> int:
    """Add tags to the photos of `rows` (n,) int64 and take others away, in one commit; how many photos changed.

    Raises `UsageError` when a row is not in the collection, a tag is in both lists, or a photo would have more than
    `MOST`.
    """
    new, gone = checked_tags(add), set(checked_tags(remove))
    if both := sorted(gone.intersection(new)):
        raise UsageError(f"tag {both[0]!r} is to be added and removed: leave one out")
    table = writer.tables.find("row", np.unique(rows).tolist(), ["row", "id", "tags"])
    changed: dict[int, list[str]] = {}
    for row, id_, known in zip(*(table[name].to_pylist() for name in ("row", "id", "tags")), strict=True):
        tags = sorted({*(known or ()), *new} - gone)
        if len(tags) > MOST:
            raise UsageError(f"{id_} would have {len(tags)} tags: at most {MOST} are kept")
        if tags != sorted(known or ()):
            changed[row] = tags
    writer.set_tags(changed)
    return len(changed)


def tag_photos(
    writer: Writer, photos: Sequence[str | os.PathLike[str]] | Int64, add: Sequence[str], remove: Sequence[str]
) -> int:
    """As `change_tags`, of photos by id, by the path of their file, or by row. Raises as `named_rows` does, too."""
    rows = photos if isinstance(photos, np.ndarray) else named_rows(writer.tables, photos)
    return change_tags(writer, rows, add, remove)


def named_rows(tables: Tables, photos: Sequence[str | os.PathLike[str]]) -> Int64:
    """Rows (n,) int64, ascending, of photos by id or by the path of their file.

    Raises `UsageError` for the first that is neither.
    """
    names = [os.fspath(photo) for photo in photos]
    by_id = _rows(tables, "id", names)
    paths = {name: escape_path(os.path.abspath(name)) for name in names if name not in by_id}
    by_path = _rows(tables, "uri", list(paths.values()))
    for name, path in paths.items():
        if path not in by_path:
            raise UsageError(f"{name} is neither the id nor the file of a photo in {tables.folder}: check the spelling")
    return np.unique(np.array([*by_id.values(), *by_path.values()], np.int64))


def _rows(tables: Tables, column: str, values: list[str]) -> dict[str, int]:
    table = tables.find(column, values, [column, "row"])
    return dict(zip(table[column].to_pylist(), table["row"].to_pylist(), strict=True))


def tag_counts(tables: Tables) -> dict[str, int]:
    """Every tag, in alphabetical order, and how many photos have it."""
    counts = Counter(tag for tags in tables.images(["tags"])["tags"].to_pylist() for tag in tags or ())
    return dict(sorted(counts.items()))
