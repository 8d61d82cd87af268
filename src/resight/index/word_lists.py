"""Which words of a large codebook lie nearest, without a look at all of them: words in lists around coarse centroids.

A descriptor is compared with the words of its nearest lists only. What it finds depends on descriptor and codebook
alone: single precision only proposes words, double precision in a fixed order decides between them.

Paper: Sivic and Zisserman, "Video Google", ICCV 2003, for the lists; Jegou, Douze and Schmid, "Product quantization for
nearest neighbor search", TPAMI 2011, for searching several of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types

from resight.arrays import finite_rows
from resight.errors import ArrayError
from resight.index.asmk_kernels import ROWS, VECTORS, Array, counting_order
from resight.index.kmeans import SPARE, decide, kmeans, nearest
from resight.types import Float32, Int64, as_array

LISTS_PER_ROOT = 2  # lists for W words: so many times its square root
ITERATIONS = 6
PROBES = 32  # lists that a descriptor is compared with
BLOCK = 8192  # descriptors at a time


@dataclass(frozen=True, eq=False)
class WordLists:
    """`coarse` (L, D) float32 centroids, and `owners` (W,) int64: the list of each word.

    Raises `ArrayError` on other shapes, and on a word in no list.
    """

    coarse: Float32
    owners: Int64

    def __post_init__(self) -> None:
        object.__setattr__(self, "coarse", finite_rows("WordLists.coarse", self.coarse))
        object.__setattr__(self, "owners", as_array("WordLists.owners", self.owners, np.int64, (None,)))
        if len(self.owners) and not 0 <= self.owners.min() <= self.owners.max() < len(self.coarse):
            raise ArrayError(f"WordLists.owners must lie in 0..{len(self.coarse) - 1}")

    @staticmethod
    def fit(words: Float32) -> WordLists:
        """Lists of `words` (W, D), by k-means with a fixed seed: the same on every processor."""
        count = min(max(int(LISTS_PER_ROOT * len(words) ** 0.5), 1), len(words))
        coarse = kmeans(words, count, seed=0, iterations=ITERATIONS)
        return WordLists(coarse, nearest(words, coarse, 1)[:, 0])

    def nearest(self, words: Float32, points: Float32, k: int) -> Int64:
        """The `k` nearest of `words` (W, D) to each of `points` (n, D) among those of its `PROBES` nearest lists.

        Nearest first by exact squared distance, equal ones by number, (n, k) int64. More lists are searched where these
        hold fewer than k words. Peak memory: some 5 MB beside the words and the result.
        """
        order, starts = counting_order(self.owners, len(self.coarse))
        sizes = np.sort(np.diff(starts))
        probes = max(PROBES, int(np.searchsorted(np.cumsum(sizes), k)) + 1)
        found = [
            self._block(words, points[start : start + BLOCK], k, min(probes, len(self.coarse)), order, starts)
            for start in range(0, len(points), BLOCK)
        ]
        return np.concatenate([np.empty((0, k), np.int64), *found])

    def _block(self, words: Float32, points: Float32, k: int, probes: int, order: Int64, starts: Int64) -> Int64:
        lists = nearest(points, self.coarse, probes).ravel()
        by_list, ends = counting_order(lists, len(self.coarse))
        proposed = np.full((len(points), min(k + SPARE, len(words))), -1, np.int64)
        worth = np.full(proposed.shape, np.inf, np.float32)
        _propose(by_list // probes, ends, order, starts, points, words, worth, proposed)
        if (proposed[:, :k] < 0).any():
            raise ArrayError("descriptors are too large to be compared in single precision: scale them down")
        proposed = np.where(proposed < 0, proposed[:, :1], proposed)  # the spare one, where the lists are that short
        decide(points, words, proposed)
        return np.ascontiguousarray(_distinct(proposed, k))


def _distinct(proposed: Int64, k: int) -> Int64:
    """The first k numbers of every row, of which one may stand there twice in succession."""
    again = np.diff(proposed, axis=1, prepend=-1) == 0
    return np.take_along_axis(proposed, np.argsort(again, axis=1, kind="stable"), axis=1)[:, :k]


@njit(
    types.void(ROWS, ROWS, ROWS, ROWS, VECTORS, VECTORS, types.float32[:, ::1], types.int64[:, ::1]),
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract", "nsz"},
)
def _propose(
    asking: Array, ends: Array, order: Array, starts: Array, points: Array, words: Array, worth: Any, proposed: Any
) -> None:
    """Keep in `proposed` (n, m) the words of least distance, `worth`, ascending; list by list, each of which is read
    once. Points asking[ends[l]:ends[l + 1]] are compared with words order[starts[l]:starts[l + 1]]."""
    last = proposed.shape[1] - 1
    for each in range(len(starts) - 1):
        for a in range(ends[each], ends[each + 1]):
            point, best, kept = points[asking[a]], worth[asking[a]], proposed[asking[a]]
            for i in range(starts[each], starts[each + 1]):
                word = words[order[i]]
                distance = np.float32(0)
                for d in range(len(point)):
                    difference = point[d] - word[d]
                    distance += difference * difference
                if distance < best[last]:
                    place = last
                    while place > 0 and distance < best[place - 1]:
                        best[place], kept[place] = best[place - 1], kept[place - 1]
                        place -= 1
                    best[place], kept[place] = distance, order[i]
