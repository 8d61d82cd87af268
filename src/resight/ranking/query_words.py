"""Visual words of queries: which words of a large codebook lie nearest to each feature, by a shortlist.

Comparing 1000 features with 8192 words in full costs more than the search that follows. Signatures of one bit per
component choose the words whose distance is computed, in bytes; all numbers are integers, so the words do not depend on
the processor. Photos that are indexed are assigned in full (`Codebook.assign`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numba
import numpy as np

from resight.features.local.compact import UInt8, UInt64, signatures
from resight.index.asmk import Aggregated, Asmk, Codebook
from resight.index.codebook import EXACT_WORDS
from resight.matching.correspond import Int32
from resight.matching.shortlist import collect, hamming_row, mark, products
from resight.types import Float32, Int64, LocalFeatures

SHORTLIST_FROM = 1024  # words from which a shortlist pays
SLACK = 12  # bits beyond the least Hamming distance at which a word is still compared
HEADROOM = 1.5  # components of descriptors exceed those of words, which are means; what exceeds by more is cut


@dataclass(frozen=True, eq=False)
class Words:
    """The words of a codebook in bytes: `codes` (W, D) uint8 for `low + step * codes`, their `squares` (W,) int32, the
    `thresholds` (D,) uint8 that a component must exceed to set its bit, and the `bits` (ceil(D / 64), W) uint64."""

    codes: UInt8
    squares: Int32
    low: float
    step: float
    thresholds: UInt8
    bits: UInt64


_ASSIGNED: WeakKeyDictionary[LocalFeatures, tuple[Codebook, Int64]] = WeakKeyDictionary()
_WORDS: WeakKeyDictionary[Codebook, Words] = WeakKeyDictionary()


def bags(index: Asmk, images: Sequence[LocalFeatures], owners: Sequence[int]) -> Aggregated:
    """Queries of `index`: the features of `images` (n) aggregated by word and query, whose number `owners` (n) give."""
    some = [(owner, image) for owner, image in zip(owners, images, strict=True) if len(image)]
    rows = np.repeat(np.array([owner for owner, _ in some], np.int64), [len(image) for _, image in some])
    descriptors = [np.empty((0, index.codebook.dim), np.float32), *(image.descriptors for _, image in some)]
    multiple = min(index.kernel.query_multiple, len(index.codebook))
    words = [np.empty((0, multiple), np.int64), *(words_of(index.codebook, image, multiple) for _, image in some)]
    return index.aggregate_query(rows, np.concatenate(descriptors), np.concatenate(words))


def words_of(codebook: Codebook, features: LocalFeatures, multiple: int) -> Int64:
    """The `multiple` nearest words of every feature, nearest first, (n, multiple) int64; remembered as long as
    `features` live, since a search and its expansion ask for the same."""
    known, words = _ASSIGNED.get(features, (None, None))
    if known is not codebook or words is None or words.shape[1] != multiple:
        words = assign(codebook, features.descriptors, multiple)
        _ASSIGNED[features] = codebook, words
    return words


def assign(codebook: Codebook, descriptors: Float32, multiple: int) -> Int64:
    """The `multiple` nearest words of `descriptors` (n, D), nearest first, ties by word, (n, multiple) int64.

    Among 1024 to 16 384 words of D up to 254 they are sought by a shortlist, which misses a few of the farther ones.
    Raises as `Codebook.assign`.
    """
    if not SHORTLIST_FROM <= len(codebook) <= EXACT_WORDS or codebook.dim >= np.iinfo(np.uint8).max:
        return codebook.assign(descriptors, multiple)
    points = codebook.check(descriptors)
    if (words := _WORDS.get(codebook)) is None:
        words = _WORDS[codebook] = _words(codebook)
    codes = _codes(points, words.low, words.step)
    found = np.empty((len(points), multiple), np.int64)
    _nearest(codes, signatures(codes, words.thresholds), words.codes, words.squares, words.bits, SLACK, found)
    return found


def _words(codebook: Codebook) -> Words:
    low, high = HEADROOM * min(0.0, codebook.centroids.min()), HEADROOM * max(0.0, codebook.centroids.max())
    step = ((high - low) or 1.0) / np.iinfo(np.uint8).max
    codes = _codes(codebook.centroids, low, step)
    thresholds = (codes.sum(axis=0, dtype=np.int64) // len(codes)).astype(np.uint8)
    squares = np.square(codes, dtype=np.int32).sum(axis=1, dtype=np.int32)
    return Words(codes, squares, low, step, thresholds, signatures(codes, thresholds))


def _codes(values: Float32, low: float, step: float) -> UInt8:
    scaled = np.rint((values - np.float32(low)) * np.float32(1 / step))
    return np.asarray(np.clip(scaled, 0, np.iinfo(np.uint8).max), np.uint8)


@numba.njit(cache=True, nogil=True)
def _nearest(
    codes: UInt8, bits: UInt64, words: UInt8, squares: Int32, word_bits: UInt64, slack: int, found: Int64
) -> None:
    """Write the nearest words of every descriptor, by squared distance of the codes, ties by word, into `found`."""
    multiple, width = found.shape[1], -(-len(words) // 8) * 8
    distance = np.full(width, np.uint8(255), np.uint8)
    limits, near = np.zeros(width, np.uint8), np.empty(width, np.uint8)
    chosen, inner = np.empty(width + 8, np.int32), np.empty(width, np.int32)
    best = np.empty(multiple, np.int64)
    for i in range(len(codes)):
        limit = np.int64(hamming_row(bits[:, i], word_bits, distance)) + slack
        count = 0
        while count < multiple:
            mark(distance, np.uint8(min(limit, codes.shape[1])), limits, near)
            count = collect(near, chosen)
            limit += slack
        products(codes[i], words, chosen[:count], inner)
        best[:] = np.iinfo(np.int64).max
        for c in range(count):
            # Up to the square of the descriptor, which all words share.
            score = np.int64(squares[chosen[c]]) - 2 * np.int64(inner[c])
            place = multiple
            while place > 0 and score < best[place - 1]:
                place -= 1
            for later in range(multiple - 1, place, -1):
                best[later], found[i, later] = best[later - 1], found[i, later - 1]
            if place < multiple:
                best[place], found[i, place] = score, chosen[c]
