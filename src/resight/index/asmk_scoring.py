"""Scores of aggregated queries against the segments of an inverted file, and the best of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Float64
from resight.errors import UsageError
from resight.index.aggregation import Aggregated
from resight.index.asmk_kernels import score_binary, score_vectors
from resight.index.binarisation import PLANES, STEP
from resight.index.inverted import Segment
from resight.ties import key_columns, nearest, score_keys
from resight.types import Float32, Int64

CELLS = 1 << 20


@dataclass(frozen=True)
class Kernel:
    """How residuals of one word are compared, and words weighed: the options of `Asmk`, which explains them.

    Raises `UsageError` on values that make no sense.
    """

    binary: bool = True
    alpha: float = 3.0
    tau: float = 0.0
    idf: bool = False
    query_multiple: int = 5
    asymmetric: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.alpha) and self.alpha > 0):
            raise UsageError(f"alpha is {self.alpha}: a positive number is needed")
        if not -1 <= self.tau <= 1:
            raise UsageError(f"tau is {self.tau}: similarities lie in -1..1")
        if self.tau < 0 and self.alpha != round(self.alpha):
            raise UsageError(
                f"tau {self.tau} lets negative similarities in: alpha must be whole then, not {self.alpha}"
            )
        if self.query_multiple < 1:
            raise UsageError(f"query_multiple is {self.query_multiple}: at least one word per descriptor is needed")

    @property
    def planes(self) -> int:
        """Bits a dimension of a query's residuals; 0 in full precision."""
        return 0 if not self.binary else PLANES if self.asymmetric else 1

    def table(self, bits: int) -> Float64:
        """sigma of every distance of a query word and a signature of `bits`.

        Symmetric: distances 0..L, (L + 1,), with L = `bits` rounded up to a multiple of 32. Asymmetric: the Hamming
        distances of the planes, weighed by 1, 2, 4, ..., sum to 0..(2^planes - 1) * `bits`.
        """
        most = (2**PLANES - 1) * bits if self.asymmetric else -(-bits // 32) * 32
        similarity = (most - 2 * np.arange(most + 1)) * (STEP / 2 / bits if self.asymmetric else 1 / most)
        passed = similarity >= self.tau
        return np.where(passed, np.where(passed, similarity, 0) ** self.alpha, 0)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The segments at one moment with what follows from them, so that a search never sees half a change."""

    segments: tuple[Segment, ...]
    kernel: Kernel
    words: int
    bits: int

    @cached_property
    def rows(self) -> Int64:
        """All image rows, ascending, (N,) int64."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(s.rows for s in self.segments)]))

    @cached_property
    def word_weights(self) -> Float64:
        """(ln(N / df))^2 of every word, (W,); 1 for a word of no image, and for every word without idf."""
        weights = np.ones(self.words)
        if self.kernel.idf and self.segments:
            frequency = np.sum([s.postings_per_word for s in self.segments], axis=0)
            weights[frequency > 0] = np.log(len(self.rows) / frequency[frequency > 0]) ** 2
        return weights

    @cached_property
    def places(self) -> list[tuple[Int64, Float64]]:
        """Per segment, where its images stand in `rows`, and the factor 1 / sqrt(n_d) of each."""
        return [(np.searchsorted(self.rows, s.rows), _inverse_root(self._sizes(s))) for s in self.segments]

    @cached_property
    def table(self) -> Float64:
        """`Kernel.table` of the codebook's bits."""
        return self.kernel.table(self.bits)

    def _sizes(self, segment: Segment) -> Float64:
        if not self.kernel.idf:
            return segment.words.astype(np.float64)
        weights = np.repeat(self.word_weights, segment.postings_per_word)
        return np.asarray(np.bincount(segment.images, weights, len(segment)), np.float64)


def score_blocks(snapshot: Snapshot, queries: Aggregated, count: int) -> Iterator[tuple[slice, Float64]]:
    """Scores of `count` queries, some at a time: a slice of queries and their scores (q, N) float64, columns as `rows`.

    A block has a million cells or, if there are more images, one query: 24 bytes a cell while it is filled.
    """
    step = max(CELLS // max(len(snapshot.rows), 1), 1)
    starts = np.searchsorted(queries.rows, np.arange(count + 1))
    weights = queries.match_weights * snapshot.word_weights[queries.words]
    factors = _inverse_root(np.bincount(queries.rows, weights, count))
    for first in range(0, count, step):
        block = slice(first, min(first + step, count))
        yield block, _score(snapshot, starts[first : block.stop + 1], queries, weights) * factors[block, None]


def score_image(snapshot: Snapshot, image: Segment, shared: Aggregated, words: Int64) -> float:
    """Score, but for 1 / sqrt(n_d), of one query against a segment of one image.

    `shared`: the query where the image has words; `words`: all words of the query, ascending, which n_q counts.
    """
    weights = shared.match_weights * snapshot.word_weights[shared.words]
    score = np.zeros((1, 1))
    _compare(snapshot, np.array([0, len(shared)]), shared, weights, image, score)
    return float((score[:, 0] * _inverse_root(snapshot.word_weights[words].sum(keepdims=True)))[0])


def _score(snapshot: Snapshot, starts: Int64, queries: Aggregated, weights: Float64) -> Float64:
    """Scores, but for 1 / sqrt(n_q), of the queries between `starts`: one task per segment and share of the queries."""
    count, workers = len(starts) - 1, os.cpu_count() or 1
    share = -(-count // workers)
    scores = np.zeros((count, len(snapshot.rows)))

    def run(task: tuple[int, int]) -> None:
        number, first = task
        segment, (columns, factors) = snapshot.segments[number], snapshot.places[number]
        part = np.zeros((min(share, count - first), len(segment)))
        _compare(snapshot, starts[first : first + share + 1], queries, weights, segment, part)
        scores[first : first + share, columns] = part * factors

    tasks = [(number, first) for number in range(len(snapshot.segments)) for first in range(0, count, share)]
    if len(tasks) == 1:
        run(tasks[0])
    elif tasks:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, tasks))
    return scores


def _compare(
    snapshot: Snapshot, starts: Int64, queries: Aggregated, weights: Float64, segment: Segment, scores: Float64
) -> None:
    ours = (starts, queries.words, queries.values, weights)
    theirs = (segment.offsets, segment.images, segment.values)
    if snapshot.kernel.binary:
        score_binary(*ours, *theirs, snapshot.table, scores)
    else:
        score_vectors(*ours, *theirs, snapshot.kernel.alpha, snapshot.kernel.tau, scores)


def _inverse_root(sizes: NDArray[Any]) -> Float64:
    return np.asarray(np.divide(1, np.sqrt(sizes), out=np.zeros(len(sizes)), where=sizes > 0), np.float64)


def best(scores: Float32, k: int) -> tuple[Int64, Float32]:
    """Columns of the `k` highest in every row of `scores` (Q, N), best first, ties by column; and their scores.

    Ties are those of `resight.ties`, within a millionth of the best of them, and get one score.
    """
    count, width = scores.shape
    columns, _, levels = nearest(
        lambda which, m: _highest(scores if len(which) == count else scores[which], m), count, min(k, width), width
    )
    return columns, levels.astype(np.float32)


def _highest(scores: Float32, m: int) -> tuple[Int64, Float32]:
    """Columns and values of the `m` highest in every row, in any order; of equal ones the first."""
    if m == scores.shape[1]:
        return np.broadcast_to(np.arange(m), scores.shape), scores
    keys = np.partition(score_keys(scores), scores.shape[1] - m, axis=1)[:, scores.shape[1] - m :]
    columns = key_columns(keys)
    return columns, np.take_along_axis(scores, columns, axis=1)
