"""The photos of a collection as columns in memory: pages, filters and counts at 100 000 photos without a table scan."""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Bool
from resight.errors import UsageError
from resight.store.tables import Tables
from resight.types import Int64

Order = Literal["time", "name"]
COLUMNS = ("id", "row", "width", "height", "taken_at", "sha256", "tags", "error_kind")
SIZES = (640, 1280, 2560, 5120)  # pixels of the longer side: bounds of the counts by size


@dataclass(frozen=True)
class Filter:
    """Which photos are meant: those in `folder` or below, taken at `from_` or later and before `to` (ISO 8601, or the
    beginning of one), with `tag`, whose longer side has `min_side` to `max_side` pixels. None: whatever.
    """

    folder: str | None = None
    from_: str | None = None
    to: str | None = None
    tag: str | None = None
    min_side: int | None = None
    max_side: int | None = None

    @property
    def empty(self) -> bool:
        """Whether it leaves all photos."""
        return self == Filter()


@dataclass(frozen=True, eq=False)
class PhotoList:
    """The photos of one snapshot that could be decoded, by row, as columns of n: some 300 bytes each."""

    ids: list[str]
    rows: Int64
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    taken: list[str]
    sha256: list[str]
    tags: list[list[str]]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def place(self) -> Mapping[str, int]:
        """Place in the columns of every photo, by id."""
        return {id_: place for place, id_ in enumerate(self.ids)}

    def at(self, row: int) -> int:
        """Place in the columns of the photo with this row."""
        return int(np.searchsorted(self.rows, row))

    def has(self, row: int) -> bool:
        """Whether a photo has this row."""
        place = self.at(row)
        return place < len(self) and int(self.rows[place]) == row

    @cached_property
    def folders(self) -> list[str]:
        """The folder of every photo: its id up to the last slash."""
        return [id_.rpartition("/")[0] for id_ in self.ids]

    @cached_property
    def copies(self) -> list[list[int]]:
        """Places of photos whose files are the same, a list for each such file."""
        found: dict[str, list[int]] = {}
        for place, sha256 in enumerate(self.sha256):
            found.setdefault(sha256, []).append(place)
        return [places for sha256, places in found.items() if sha256 and len(places) > 1]

    @cached_property
    def orders(self) -> Mapping[Order, Int64]:
        """Places in the order of time, newest first and undated last, and of names."""
        names = sorted(range(len(self)), key=self.ids.__getitem__)
        dated = sorted(names, key=lambda place: self.taken[place], reverse=True)
        return {"name": np.array(names, np.int64), "time": np.array(dated, np.int64)}

    @cached_property
    def _columns(self) -> tuple[NDArray[Any], Int64, NDArray[Any], NDArray[Any]]:
        """All folders, the folder of every photo among them, the times, the longer sides."""
        sides = np.maximum(self.widths, self.heights)
        names, codes = np.unique(np.array(self.folders, np.object_), return_inverse=True)
        return names.astype(np.str_), codes, np.array(self.taken, np.str_), sides

    def fitting(self, wanted: Filter) -> Bool:
        """Which photos (n,) fit a filter."""
        fits = np.ones(len(self), np.bool_)
        folders, codes, taken, sides = self._columns
        if wanted.folder is not None and len(self):
            folder = wanted.folder.strip("/")
            fits &= ((folders == folder) | np.char.startswith(folders, f"{folder}/" if folder else ""))[codes]
        if wanted.from_ is not None:
            fits &= (taken >= wanted.from_) & (taken != "")
        if wanted.to is not None:
            fits &= (taken < wanted.to) & (taken != "")
        if wanted.tag is not None:
            fits &= np.array([wanted.tag in tags for tags in self.tags], np.bool_)
        if wanted.min_side is not None:
            fits &= sides >= wanted.min_side
        if wanted.max_side is not None:
            fits &= sides <= wanted.max_side
        return fits

    def page(self, wanted: Filter, order: Order, after: int, limit: int) -> tuple[list[int], int]:
        """Places of the photos that fit from number `after` on, at most `limit`, and how many fit in all."""
        places = self.orders[order]
        if not wanted.empty:
            places = places[self.fitting(wanted)[places]]
        return places[after : after + limit].tolist(), len(places)

    def facets(self, wanted: Filter) -> dict[str, list[tuple[str, int]]]:
        """Of the photos that fit: how many are in each folder, month, class of size, and under each tag."""
        places = np.flatnonzero(self.fitting(wanted)).tolist()
        months = Counter(self.taken[place][:7] for place in places)
        sides = self._columns[3][places] if places else np.empty(0, np.int32)
        classes = np.bincount(np.searchsorted(SIZES, sides, side="right"), minlength=len(SIZES) + 1)
        labels = [f"{low}-{high}" for low, high in zip((0, *SIZES), (*(size - 1 for size in SIZES), ""), strict=True)]
        return {
            "folders": sorted(Counter(self.folders[place] for place in places).items()),
            "months": sorted(months.items(), reverse=True),
            "sizes": [(label, int(n)) for label, n in zip(labels, classes, strict=True) if n],
            "tags": sorted(Counter(tag for place in places for tag in self.tags[place]).items()),
        }


def photo_list(tables: Tables) -> PhotoList:
    """The photos of `tables`."""
    table = tables.images(COLUMNS)
    table = table.filter(table["error_kind"].is_null())
    return PhotoList(
        table["id"].to_pylist(),
        table["row"].to_numpy(),
        table["width"].to_numpy(),
        table["height"].to_numpy(),
        [value or "" for value in table["taken_at"].to_pylist()],
        table["sha256"].to_pylist(),
        [value or [] for value in table["tags"].to_pylist()],
    )


def cursor_of(after: int) -> str:
    """A cursor that stands behind so many entries."""
    return base64.urlsafe_b64encode(json.dumps({"after": after}).encode()).rstrip(b"=").decode()


def read_cursor(cursor: str | None, most: int = 1 << 40) -> int:
    """How many entries a cursor stands behind. Raises `UsageError` for what `cursor_of` does not give."""
    if cursor is None:
        return 0
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        after = json.loads(text)["after"]
        if type(after) is not int or not 0 <= after <= most or cursor_of(after) != cursor:
            raise ValueError
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise UsageError("this cursor is none that this service gave: leave it out to start anew") from error
    return after
