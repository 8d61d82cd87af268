"""Batches of an epoch: which photos, in which tuples, changed how; the photos are decoded ahead of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from resight.images.loader import map_ordered
from resight.training.tuples.augmentation import Augmentation, Pixels
from resight.training.tuples.photos import Photos
from resight.types import Float32, Int64

QUERY, POSITIVE, NEGATIVE = -1, 1, 0


@dataclass(frozen=True, eq=False)
class Drawn:
    """Photos `rows` (T, M) of T tuples, each a query, its positive and negatives, or (B,) of single photos; `seeds` of
    the same shape choose how each is changed; `regions` (T, 2, 4) of query and positive must stay visible, or None."""

    rows: Int64
    seeds: Int64
    regions: Float32 | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Int64:
        """(T * M,): -1 for a query, 1 for a positive, 0 for a negative."""
        one = np.full(self.rows.shape[1], NEGATIVE, np.int64)
        one[:2] = QUERY, POSITIVE
        return np.tile(one, len(self.rows))

    def select(self, index: slice) -> Drawn:
        """The tuples, or photos, at `index`."""
        regions = None if self.regions is None else self.regions[index]
        return Drawn(self.rows[index], self.seeds[index], regions)

    def image(self, place: int, photos: Photos, change: Augmentation) -> Pixels:
        """Pixels of the photo at `place`, counted through all tuples: the same at every call."""
        region = None
        if self.regions is not None:
            row, column = divmod(place, self.rows.shape[1])
            region = self.regions[row, column] if column < 2 else None
        pixels = photos.pixels(int(self.rows.flat[place]))
        return change(pixels, np.random.default_rng(int(self.seeds.flat[place])), region)


@dataclass(frozen=True, eq=False)
class Batch:
    """What was drawn, and its photos `images`, where they were loaded ahead, one list for each tuple."""

    drawn: Drawn
    images: tuple[tuple[Pixels, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.drawn)


@dataclass(frozen=True, eq=False)
class Batches(Sequence[Batch]):
    """The batches of an epoch, of `size` tuples or photos. A slice makes only what is in it. With `ahead`, photos are
    loaded in threads, a batch before it is needed."""

    drawn: Drawn
    size: int
    photos: Photos
    change: Augmentation
    ahead: bool = True
    chosen: range | None = None
    share: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def _numbers(self) -> range:
        return range(-(-len(self.drawn) // self.size)) if self.chosen is None else self.chosen

    @overload
    def __getitem__(self, place: int) -> Batch: ...
    @overload
    def __getitem__(self, place: slice) -> Batches: ...
    def __getitem__(self, place: int | slice) -> Batch | Batches:
        if isinstance(place, slice):
            return replace(self, chosen=self._numbers[place])
        number = self._numbers[place]
        return self._load(self.drawn.select(slice(number * self.size, (number + 1) * self.size)))

    def __iter__(self) -> Iterator[Batch]:
        jobs = 0 if self.ahead else 1
        yield from map_ordered(self.__getitem__, range(len(self)), jobs=jobs, ahead=2)

    def _load(self, drawn: Drawn) -> Batch:
        if not self.ahead:
            return Batch(drawn)
        first, step = self.share
        width = drawn.rows.shape[1] if drawn.rows.ndim == 2 else 1
        return Batch(
            drawn,
            tuple(
                tuple(drawn.image(row * width + column, self.photos, self.change) for column in range(width))
                if row % step == first
                else ()
                for row in range(len(drawn))
            ),
        )
