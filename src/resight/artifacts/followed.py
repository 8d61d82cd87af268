"""Which state of the tables the artifacts follow, so that a search need not compare the two row by row, and so that
after an addition only what is new is looked at.

A state is known by the next row and the number of photos: an addition raises the first, a removal leaves it and lowers
the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from resight.artifacts import files
from resight.errors import CollectionError
from resight.store.tables import Tables
from resight.store.writer import Writer
from resight.types import Int64


@dataclass(frozen=True)
class Followed:
    """A state of the tables, and by the key of each kind of local features how many `photos` have some, and how many
    `features` there are.
    """

    next_row: int
    live: int
    photos: Mapping[str, int]
    features: Mapping[str, int]

    def is_of(self, tables: Tables, indexed: Mapping[str, int]) -> bool:
        """Whether the tables are in this state, and indices of so many photos by key hold just those of it."""
        return (self.next_row, self.live) == (tables.next_row, len(tables)) and dict(self.photos) == dict(indexed)


def differences(indexed: Int64, tables: Tables, key: str = "", followed: Followed | None = None) -> tuple[Int64, Int64]:
    """Rows of `indexed` (N,) without features of a kind in the tables, and rows with features that it lacks, each (n,)
    int64 ascending. Where nothing was removed since the state that an index of those rows is known to have followed,
    only later rows are looked at.
    """
    if followed is not None and followed.photos.get(key) == len(indexed) and _only_grown(tables, followed):
        rows, counts = tables.features_from(followed.next_row, key)
        return np.empty(0, np.int64), rows[counts > 0]
    rows = tables.feature_rows[tables.counts(tables.feature_rows, key) > 0]
    return np.setdiff1d(indexed, rows), np.setdiff1d(rows, indexed)


def totals(tables: Tables, key: str = "", followed: Followed | None = None) -> tuple[int, int]:
    """How many photos have features of a kind, and how many features there are."""
    if followed is not None and key in followed.photos and _only_grown(tables, followed):
        _, counts = tables.features_from(followed.next_row, key)
        return followed.photos[key] + int((counts > 0).sum()), followed.features[key] + int(counts.sum())
    counts = tables.counts(tables.feature_rows, key)
    return int((counts > 0).sum()), int(counts.sum())


def _only_grown(tables: Tables, followed: Followed) -> bool:
    """Whether no photo was removed or replaced since a state."""
    return followed.live + tables.photos_from(followed.next_row) == len(tables)


def load_followed(folder: Path) -> Followed | None:
    """What `write_followed` wrote last; None when it is not known, or cannot be read."""
    content = files.usable(files.FOLLOWED, folder, files.read_json)
    try:
        return None if content is None else _checked(Followed(**content))
    except (TypeError, CollectionError):
        return None


def write_followed(writer: Writer, keys: Iterable[str], before: Followed | None) -> None:
    """Keep that the artifacts follow the tables as they are, which hold kinds of local features by `keys`; `before`:
    the state that was followed before.
    """
    tables = writer.tables
    counted = {key: totals(tables, key, before) for key in keys}
    photos, features = ({key: pair[place] for key, pair in counted.items()} for place in (0, 1))
    files.write_json(writer, files.FOLLOWED, asdict(Followed(tables.next_row, len(tables), photos, features)))


def _checked(followed: Followed) -> Followed:
    numbers: Iterable[object] = (followed.next_row, followed.live)
    for part in (followed.photos, followed.features):
        if not isinstance(part, dict):
            raise CollectionError("it holds no numbers")
        numbers = (*numbers, *part.values())
    if not all(isinstance(number, int) and number >= 0 for number in numbers) or set(followed.photos) != set(
        followed.features
    ):
        raise CollectionError("it holds impossible numbers")
    return followed
