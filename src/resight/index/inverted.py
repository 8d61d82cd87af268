"""The inverted file of ASMK: immutable segments of at most 65 536 images, merged as they grow.

A posting is a residual and the number of its image within the segment; the word is where it stands. Both are coded as
`resight.index.posting_codes` says. Removing an image only marks it (a tombstone), until enough of a segment is dead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import ArrayError, CollectionError
from resight.index.aggregation import Aggregated
from resight.index.asmk_kernels import counting_order
from resight.index.posting_codes import (
    LANE_BITS,
    PADDING,
    decode,
    encode,
    find_image,
    from_lanes,
    lanes_of,
    to_lanes,
)
from resight.types import Bool, Int64

IMAGES_PER_SEGMENT = 1 << 16
POSTINGS_PER_SEGMENT = 1 << 27  # so that places in the codes fit into 32 bits
DEAD_SHARE = 0.25  # of a segment's images: beyond, it is written again without them


@dataclass(frozen=True, eq=False)
class Segment:
    """Postings of n images, by word, then image.

    `rows` (n,) int64 ascending; `sizes` (n,) uint32, the words of each image; `offsets` (W + 1,) uint32: word w owns
    postings offsets[w]:offsets[w + 1]; `begins` (W + 1,) uint32: the first bit of each word in `codes` (.,) uint64, the
    images; `values`: lanes of signatures, (P * L + 64,) uint32, or unit residuals (P, D) float32. `dead` (n,) bool:
    images that were removed. `file`: where it is mapped from, None in memory.
    Raises `ArrayError` unless lengths, types and orders are these. What the lists hold is checked as they are read.
    """

    rows: Int64
    sizes: NDArray[np.uint32]
    offsets: NDArray[np.uint32]
    begins: NDArray[np.uint32]
    codes: NDArray[np.uint64]
    values: NDArray[Any]
    dead: Bool
    file: Path | None = None

    def __post_init__(self) -> None:
        arrays = (self.rows, self.sizes, self.offsets, self.begins, self.codes, self.values, self.dead)
        kinds = [array.dtype.name for array in arrays]
        binary = kinds[5] == "uint32"
        if kinds != ["int64", *["uint32"] * 3, "uint64", "uint32" if binary else "float32", "bool"]:
            raise ArrayError(f"the arrays of a segment have types {', '.join(kinds)}")
        if [array.ndim for array in arrays] != [1, 1, 1, 1, 1, 1 if binary else 2, 1]:
            raise ArrayError("the arrays of a segment have a wrong number of dimensions")
        count, words = len(self.rows), len(self.offsets)
        if not 0 < count <= IMAGES_PER_SEGMENT or self.rows[0] < 0 or (np.diff(self.rows) <= 0).any():
            raise ArrayError(f"the {count} rows of a segment must be 1 to 65536, start at 0 and ascend")
        if len(self.sizes) != count or len(self.dead) != count or not words or len(self.begins) != words:
            raise ArrayError("the images or words of a segment are not as many as they should be")
        for name, starts, most in (
            ("postings", self.offsets, self.postings),
            ("codes", self.begins, 64 * (len(self.codes) - 1)),
        ):
            if starts[0] or starts[-1] > most or (starts[1:] < starts[:-1]).any():
                raise ArrayError(f"the {name} of a segment lie outside it")
        if int(self.sizes.sum(dtype=np.int64)) != self.postings or self.offsets[-1] != self.postings:
            raise ArrayError("the postings of a segment are not as many as its offsets say")
        if not binary and len(self.values) != self.postings:
            raise ArrayError("the residuals of a segment are not as many as its postings")
        if binary and (len(self.values) - PADDING) % max(self.postings, 1):
            raise ArrayError("the signatures of a segment are not as many as its postings")

    def __len__(self) -> int:
        return int(len(self.rows) - self.dead.sum())

    @property
    def postings(self) -> int:
        """Number of (image, word) pairs, those of dead images included."""
        return int(self.offsets[-1])

    @property
    def width(self) -> int:
        """Lanes of a signature; 0 in full precision and without postings."""
        return 0 if self.values.ndim == 2 else (len(self.values) - PADDING) // max(self.postings, 1)

    @cached_property
    def alive(self) -> Int64:
        """Places in `rows` of the images that are not dead, ascending, (m,) int64."""
        return np.flatnonzero(~self.dead)

    @cached_property
    def live_rows(self) -> Int64:
        """Rows of the images that are not dead, ascending, (m,) int64."""
        return self.rows[self.alive]

    @cached_property
    def postings_per_word(self) -> Int64:
        """Number of live images that hold each word, (W,) int64."""
        if not self.dead.any():
            return np.asarray(np.diff(self.offsets.astype(np.int64)), np.int64)
        kept = np.append(0, np.cumsum(~self.dead[self.images()]))
        return np.asarray(np.diff(kept[self.offsets]), np.int64)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the arrays take, in memory or mapped; the file holds some less."""
        arrays = (self.rows, self.sizes, self.offsets, self.begins, self.codes, self.values)
        return sum(array.nbytes for array in arrays)

    def images(self) -> NDArray[np.uint16]:
        """The image of every posting, its place in `rows`, (P,). Raises `CollectionError` where a list is damaged."""
        found = np.empty(self.postings, np.uint16)
        self.sound(decode(self.offsets, self.begins, self.codes, len(self.rows), found))
        return found

    def sound(self, word: int) -> None:
        """Raises `CollectionError` when `word`, as a kernel gives it, is that of a damaged list."""
        if word >= 0:
            where = "an inverted file in memory" if self.file is None else str(self.file)
            raise CollectionError(f"{where} is damaged (its list of word {word} is not what was written): rebuild it")

    def plain_values(self) -> NDArray[Any]:
        """Residuals of all postings, (P, D) float32, or their signatures (P, L) uint32."""
        if self.values.ndim == 2:
            return self.values
        found = np.empty((self.postings, self.width), np.uint32)
        from_lanes(self.offsets, self.values, found)
        return found

    def holds(self, rows: Int64) -> Bool:
        """Which of `rows` (m,) are in this segment, and not dead, (m,) bool."""
        place = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.asarray((self.rows[place] == rows) & ~self.dead[place])

    def only(self, row: int, words: Int64) -> Segment:
        """The image of `row` alone, which it must hold, and of its postings those of `words` (w,), ascending."""
        image, width = int(np.searchsorted(self.rows, row)), max(self.width, 1)
        found = np.empty(len(words), np.int64)
        self.sound(find_image(self.offsets, self.begins, self.codes, len(self.rows), image, words, found))
        held, place = words[found >= 0], found[found >= 0]
        start, step = self.offsets[held].astype(np.int64), np.diff(self.offsets)[held].astype(np.int64)
        if self.values.ndim == 2:
            values = self.values[start + place]
        else:
            values = self.values[(start * width + place)[:, None] + step[:, None] * np.arange(width)]
        return _coded(np.array([row]), np.zeros(len(held), np.uint16), held, values, len(self.offsets) - 1)

    def without(self, rows: Int64) -> Segment | None:
        """This segment with `rows` dead; written without the dead when they are many, None when nothing is left."""
        dead = self.dead | np.isin(self.rows, rows)
        if dead.all():
            return None
        marked = replace(self, dead=dead)
        return marked.compacted() if dead.mean() > DEAD_SHARE else marked

    def compacted(self) -> Segment:
        """This segment without its dead images. Copies the postings."""
        if not self.dead.any():
            return self
        images, words = self.images(), _word_of(self)
        kept = ~self.dead[images]
        place = (np.cumsum(~self.dead) - 1).astype(np.uint16)
        values = self.plain_values()[kept]
        return _coded(self.live_rows, place[images[kept]], words[kept], values, len(self.offsets) - 1)


def build(aggregated: Aggregated, word_count: int, bits: int) -> list[Segment]:
    """Segments of the images of `aggregated`, in order of rows; `bits` of a signature."""
    firsts = np.flatnonzero(np.diff(aggregated.rows, prepend=-1))
    values = lanes_of(aggregated.values, bits) if aggregated.values.dtype == np.uint64 else aggregated.values
    part = np.arange(len(firsts)) // IMAGES_PER_SEGMENT + firsts // POSTINGS_PER_SEGMENT
    edges = np.append(firsts[np.diff(part, prepend=-1) > 0], len(aggregated))
    segments = []
    for start, end in pairwise(edges):
        rows = aggregated.rows[start:end]
        new = np.diff(rows, prepend=-1) > 0
        place = np.cumsum(new) - 1
        segments.append(_invert(rows[new], place, aggregated.words[start:end], values[start:end], word_count))
    return segments


def merge_small(segments: list[Segment]) -> list[Segment]:
    """Merge the two smallest while they are of like size: n adds cost n log n copies, and few segments remain."""
    pool = sorted(segments, key=len, reverse=True)
    while len(pool) > 1 and len(pool[-2]) <= 2 * len(pool[-1]) and _fit(pool[-2], pool[-1]):
        pool = sorted([*pool[:-2], _merge(pool[-2], pool[-1])], key=len, reverse=True)
    return pool


def from_plain(rows: Int64, offsets: Int64, images: NDArray[np.uint16], values: NDArray[Any], bits: int) -> Segment:
    """A segment of plain arrays: `offsets` (W + 1,), `images` (P,) ascending within a word, values as `Aggregated`'s.

    Raises `ArrayError` when they are not that.
    """
    postings = len(images)
    if images.dtype != np.uint16 or rows.dtype != np.int64 or not len(rows) or not len(offsets):
        raise ArrayError("the arrays of a segment have wrong types, or are empty")
    if len(values) != postings or offsets[0] or offsets[-1] != postings or (np.diff(offsets) < 0).any():
        raise ArrayError("the postings of a segment are not as many as its offsets say")
    if postings and images.max() >= len(rows):
        raise ArrayError("the image numbers of a segment lie outside it")
    ascends = np.append(True, images[1:] > images[:-1])
    ascends[offsets[:-1][np.diff(offsets) > 0]] = True
    if not ascends[:postings].all():
        raise ArrayError("a word of a segment names the same image twice, or out of order")
    lanes = lanes_of(values, bits) if values.dtype == np.uint64 else values
    return _packed(rows, offsets.astype(np.uint32), images, lanes)


def _fit(a: Segment, b: Segment) -> bool:
    return len(a) + len(b) <= IMAGES_PER_SEGMENT and a.postings + b.postings <= POSTINGS_PER_SEGMENT


def _merge(a: Segment, b: Segment) -> Segment:
    a, b = a.compacted(), b.compacted()
    rows = np.sort(np.concatenate([a.rows, b.rows]))
    place = np.concatenate([np.searchsorted(rows, a.rows)[a.images()], np.searchsorted(rows, b.rows)[b.images()]])
    words = np.concatenate([_word_of(a), _word_of(b)])
    return _invert(rows, place, words, np.concatenate([a.plain_values(), b.plain_values()]), len(a.offsets) - 1)


def _word_of(segment: Segment) -> Int64:
    """The word of every posting, (P,) int64."""
    return np.repeat(np.arange(len(segment.offsets) - 1), np.diff(segment.offsets))


def _invert(rows: Int64, place: Int64, words: Int64, values: NDArray[Any], word_count: int) -> Segment:
    by_image = counting_order(place, len(rows))[0]
    by_word, offsets = counting_order(words[by_image], word_count)
    order = by_image[by_word]
    return _packed(rows, offsets.astype(np.uint32), place[order].astype(np.uint16), values[order])


def _coded(rows: Int64, images: NDArray[np.uint16], words: Int64, values: NDArray[Any], word_count: int) -> Segment:
    """A segment of postings that are sorted by word, then image, already."""
    offsets = np.append(0, np.cumsum(np.bincount(words, minlength=word_count))).astype(np.uint32)
    return _packed(rows, offsets, images, values)


def _packed(rows: Int64, offsets: NDArray[np.uint32], images: NDArray[np.uint16], values: NDArray[Any]) -> Segment:
    begins, codes = encode(offsets, images, len(rows))
    if begins[-1] >= 1 << 32:
        raise ArrayError(f"{len(images)} postings are too many for one segment")
    sizes = np.bincount(images, minlength=len(rows)).astype(np.uint32)
    if values.dtype == np.uint32:
        lanes = np.zeros(values.size + PADDING, np.uint32)
        to_lanes(offsets, np.ascontiguousarray(values), lanes)
        values = lanes
    return Segment(rows, sizes, offsets, begins.astype(np.uint32), codes, values, np.zeros(len(rows), bool))


def lanes_per_signature(bits: int) -> int:
    """Numbers of 32 bits that hold a signature."""
    return -(-bits // LANE_BITS)
