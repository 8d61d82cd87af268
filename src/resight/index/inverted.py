"""The inverted file of ASMK: immutable segments of at most 65 536 images, merged as they grow.

A posting is a residual and the number of its image within the segment, in 16 bits; the word is where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError
from resight.index.aggregation import Aggregated
from resight.index.asmk_kernels import counting_order
from resight.types import Bool, Int64

IMAGES_PER_SEGMENT = 1 << 16


@dataclass(frozen=True, eq=False)
class Segment:
    """Postings of n images, by word, then image.

    `rows` (n,) int64 ascending; `offsets` (W + 1,) int64: word w owns postings offsets[w]:offsets[w + 1]; `images` (P,)
    uint16, places in `rows`, ascending within a word; `values` (P, .) uint64 or float32 as in `Aggregated`.
    Raises `ArrayError` unless all of this holds: the kernels that read a segment check nothing.
    """

    rows: Int64
    offsets: Int64
    images: NDArray[np.uint16]
    values: NDArray[Any]

    def __post_init__(self) -> None:
        kinds = [array.dtype.name for array in (self.rows, self.offsets, self.images, self.values)]
        if kinds[:3] != ["int64", "int64", "uint16"] or kinds[3] not in ("uint64", "float32"):
            raise ArrayError(f"the arrays of a segment have types {', '.join(kinds)}")
        if [array.ndim for array in (self.rows, self.offsets, self.images, self.values)] != [1, 1, 1, 2]:
            raise ArrayError("the arrays of a segment have a wrong number of dimensions")
        if not 0 < len(self.rows) <= IMAGES_PER_SEGMENT or self.rows[0] < 0 or (np.diff(self.rows) <= 0).any():
            raise ArrayError(f"the {len(self.rows)} rows of a segment must be 1 to 65536, start at 0 and ascend")
        postings = len(self.images)
        if len(self.values) != postings or not len(self.offsets) or self.offsets[0] or self.offsets[-1] != postings:
            raise ArrayError("the postings of a segment are not as many as its offsets say")
        if (np.diff(self.offsets) < 0).any() or (postings and self.images.max() >= len(self.rows)):
            raise ArrayError("the offsets or image numbers of a segment lie outside it")
        ascends = np.append(True, self.images[1:] > self.images[:-1])
        ascends[self.offsets[:-1][np.diff(self.offsets) > 0]] = True
        if not ascends[:postings].all():
            raise ArrayError("a word of a segment names the same image twice, or out of order")

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def words(self) -> Int64:
        """Number of distinct words of every image, (n,) int64."""
        return np.bincount(self.images, minlength=len(self.rows))

    @property
    def postings_per_word(self) -> Int64:
        """Number of images that hold each word, (W,) int64."""
        return np.diff(self.offsets)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the arrays take."""
        return sum(array.nbytes for array in (self.rows, self.offsets, self.images, self.values))

    def holds(self, rows: Int64) -> Bool:
        """Which of `rows` (m,) are in this segment, (m,) bool."""
        place = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.asarray(self.rows[place] == rows)

    def only(self, row: int) -> Segment:
        """This segment with the image of `row` alone, which it must hold: a binary search in the list of every word."""
        image = int(np.searchsorted(self.rows, row))
        low, high, last = self.offsets[:-1], self.offsets[1:], max(len(self.images) - 1, 0)
        while (low < high).any():
            middle = (low + high) // 2
            before = self.images[np.minimum(middle, last)] < image
            open_ = low < high
            low, high = np.where(open_ & before, middle + 1, low), np.where(open_ & ~before, middle, high)
        held = low < self.offsets[1:]
        held[held] = self.images[low[held]] == image
        offsets, places = np.append(0, np.cumsum(held)), low[held]
        return Segment(np.array([row]), offsets, np.zeros(len(places), np.uint16), self.values[places])

    def without(self, rows: Int64) -> Segment | None:
        """This segment with `rows` left out; None when nothing is left. Copies the postings of one segment."""
        stays = ~np.isin(self.rows, rows)
        if not stays.any():
            return None
        kept = stays[self.images]
        offsets = np.append(0, np.cumsum(kept))[self.offsets]
        place = (np.cumsum(stays) - 1).astype(np.uint16)
        return Segment(self.rows[stays], offsets, place[self.images[kept]], self.values[kept])


def build(aggregated: Aggregated, word_count: int) -> list[Segment]:
    """Segments of the images of `aggregated`, in order of rows."""
    firsts = np.flatnonzero(np.diff(aggregated.rows, prepend=-1))
    edges = np.append(firsts[::IMAGES_PER_SEGMENT], len(aggregated))
    segments = []
    for start, end in pairwise(edges):
        rows = aggregated.rows[start:end]
        new = np.diff(rows, prepend=-1) > 0
        place = np.cumsum(new) - 1
        segments.append(
            _invert(rows[new], place, aggregated.words[start:end], aggregated.values[start:end], word_count)
        )
    return segments


def merge_small(segments: list[Segment]) -> list[Segment]:
    """Merge the two smallest while they are of like size: n adds cost n log n copies, and few segments remain."""
    pool = sorted(segments, key=len, reverse=True)
    while len(pool) > 1 and len(pool[-2]) <= 2 * len(pool[-1]) and len(pool[-2]) + len(pool[-1]) <= IMAGES_PER_SEGMENT:
        pool = sorted([*pool[:-2], _merge(pool[-2], pool[-1])], key=len, reverse=True)
    return pool


def _merge(a: Segment, b: Segment) -> Segment:
    rows = np.sort(np.concatenate([a.rows, b.rows]))
    place = np.concatenate([np.searchsorted(rows, a.rows)[a.images], np.searchsorted(rows, b.rows)[b.images]])
    words = np.arange(len(a.offsets) - 1)
    words = np.concatenate([np.repeat(words, a.postings_per_word), np.repeat(words, b.postings_per_word)])
    return _invert(rows, place, words, np.concatenate([a.values, b.values]), len(a.offsets) - 1)


def _invert(rows: Int64, place: Int64, words: Int64, values: NDArray[Any], word_count: int) -> Segment:
    by_image = counting_order(place, len(rows))[0]
    by_word, offsets = counting_order(words[by_image], word_count)
    order = by_image[by_word]
    return Segment(rows, offsets, place[order].astype(np.uint16), values[order])
