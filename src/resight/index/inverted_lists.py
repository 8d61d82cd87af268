"""Inverted lists of global descriptors over faiss: training, reading the vectors back, and measuring the recall.

The vectors are divided among lists, each with a centroid; a query scans the lists of its nearest centroids. What a
list holds is compared exactly, so the recall depends on the lists that are not scanned, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from resight.index.exact import keep_best
from resight.index.kmeans import kmeans
from resight.types import Float32, Int64

Blocks = Iterator[tuple[Int64, Float32]]

BLOCK = 8192
TRAIN_FROM = 10_000  # fewer vectors lie in one list, which is an exact search
POINTS_PER_LIST = 40  # that k-means sees
ITERATIONS = 10
SAMPLE = 256  # stored vectors whose neighbours are searched exactly, to measure the recall
FILTERED_SHARE = 0.1  # of the rows: filters that pass fewer are searched exactly


@dataclass(frozen=True)
class Effort:
    """How many lists a search scans, and the recall that this gave on the vectors themselves.

    `probes`, `recall`: without a filter; `filtered_probes`, `filtered_recall`: with a random tenth of the rows allowed.
    `measured_on`: vectors in the index at that time.
    """

    probes: int
    recall: float
    filtered_probes: int
    filtered_recall: float
    measured_on: int


EXACT = Effort(1, 1.0, 1, 1.0, 0)


def lists_for(count: int) -> int:
    """Number of lists for so many vectors: 1 below 10 000, then twice the square root."""
    return 1 if count < TRAIN_FROM else int(2 * count**0.5)


def empty_lists(centroids: Float32, half: bool) -> Any:
    """faiss's inverted lists, without vectors, around `centroids` (L, D)."""
    count, dim = centroids.shape
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(np.ascontiguousarray(centroids))
    metric, form = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_fp16
    lists: Any = (
        faiss.IndexIVFScalarQuantizer(quantizer, dim, count, form, metric, False)  # no residuals
        if half
        else faiss.IndexIVFFlat(quantizer, dim, count, metric)
    )
    lists.is_trained = True  # the centroids are all there is to learn
    return lists


def build(source: Callable[[], Blocks], count: int, dim: int, half: bool, seed: int) -> tuple[Any, Int64, Float32]:
    """Lists over the `count` vectors that `source` yields, and a random sample of these: rows (S,), vectors (S, D).

    Peak memory: the lists, and 40 vectors of the source per list.
    """
    number, rng = lists_for(count), np.random.default_rng(seed)
    chosen = rng.choice(count, min(count, max(number * POINTS_PER_LIST, SAMPLE)), replace=False)
    rows, points = _gather(source(), np.sort(chosen), dim)
    lists = empty_lists(_centroids(points, number, seed), half)
    for part, vectors in source():
        lists.add_with_ids(vectors, part)
    sample = np.sort(rng.choice(len(rows), min(SAMPLE, len(rows)), replace=False))
    return lists, rows[sample], points[sample]


def read_list(lists: Any, number: int) -> tuple[Int64, Any]:
    """Copies of the rows (n,) and the vectors (n, D), float16 or float32, in one list."""
    inside, size = lists.invlists, lists.invlists.list_size(number)
    if not size:
        return np.empty(0, np.int64), np.empty((0, lists.d), _dtype(lists))
    rows = faiss.rev_swig_ptr(inside.get_ids(number), size).copy()
    codes = faiss.rev_swig_ptr(inside.get_codes(number), size * lists.code_size)
    return rows, codes.view(_dtype(lists)).reshape(size, lists.d).copy()


def write_list(lists: Any, number: int, rows: Int64, vectors: Any) -> None:
    """Append `rows` (n,) and `vectors` (n, D), float16 or float32 as the lists hold, to one list."""
    codes = np.ascontiguousarray(vectors).view(np.uint8)
    lists.invlists.add_entries(number, len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(codes))
    lists.ntotal += len(rows)


def blocks(lists: Any) -> Blocks:
    """All rows and vectors, float32, list by list."""
    for number in range(lists.nlist):
        rows, vectors = read_list(lists, number)
        for start in range(0, len(rows), BLOCK):
            yield rows[start : start + BLOCK], vectors[start : start + BLOCK].astype(np.float32)


def measure(lists: Any, rows: Int64, points: Float32, k: int, recall: float, seed: int) -> Effort:
    """The fewest lists to scan so that the sample `rows` (S,), `points` (S, D) has `recall` of its `k` neighbours.

    A point is not its own neighbour. It costs one matrix product of the sample and all vectors.
    """
    count = int(lists.ntotal)
    if lists.nlist == 1 or count < 2:
        return EXACT
    _, order = lists.quantizer.search(points, lists.nlist)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(lists.nlist)[None], axis=1)
    plain, filtered = (
        _fewest(ranks, near, recall) for near in _neighbour_lists(lists, rows, points, min(k, count - 1), seed)
    )
    return Effort(*plain, *filtered, count)


def _fewest(ranks: Int64, near: Int64, recall: float) -> tuple[int, float]:
    """How many lists, scanned by their `ranks` (S, L), hold `recall` of the neighbours in lists `near` (S, k)."""
    needed = np.sort(np.take_along_axis(ranks, np.maximum(near, 0), 1)[near >= 0])
    probes = int(needed[int(np.ceil(recall * len(needed))) - 1]) + 1
    return probes, float((needed < probes).mean())


def _neighbour_lists(lists: Any, rows: Int64, points: Float32, k: int, seed: int) -> tuple[Int64, Int64]:
    """The list of each of the `k` nearest vectors of every point, (S, k), and the same among a tenth of the vectors.

    -1 where there are fewer.
    """
    rng = np.random.default_rng(seed)
    size = int(lists.ntotal)
    heaps = [(np.full((len(points), k), -np.inf, np.float32), np.full((len(points), k), size)) for _ in range(2)]
    start = 0
    for part, vectors in blocks(lists):
        scores = vectors @ points.T
        scores[part[:, None] == rows] = -np.inf
        keep_best(scores, start, 0, *heaps[0])
        scores[rng.random(len(part)) >= FILTERED_SHARE] = -np.inf
        keep_best(scores, start, 0, *heaps[1])
        start += len(part)
    ends = np.cumsum([lists.invlists.list_size(number) for number in range(lists.nlist)])
    plain, filtered = (
        np.where(np.isneginf(best), -1, np.searchsorted(ends, places, side="right")) for best, places in heaps
    )
    return plain, filtered


def _gather(source: Blocks, positions: Int64, dim: int) -> tuple[Int64, Float32]:
    """The rows and vectors at ascending `positions` (n,) of what `source` yields."""
    rows, points = np.empty(len(positions), np.int64), np.empty((len(positions), dim), np.float32)
    start = 0
    for part, vectors in source:
        first, last = np.searchsorted(positions, (start, start + len(part)))
        inside = positions[first:last] - start
        rows[first:last], points[first:last] = part[inside], vectors[inside]
        start += len(part)
    return rows, points


def _centroids(points: Float32, number: int, seed: int) -> Float32:
    if number == 1:
        return np.zeros((1, points.shape[1]), np.float32)
    return kmeans(points, number, seed=seed, iterations=ITERATIONS, spherical=True)  # nearest by inner product


def _dtype(lists: Any) -> type[np.floating[Any]]:
    return np.float16 if lists.code_size == 2 * lists.d else np.float32
