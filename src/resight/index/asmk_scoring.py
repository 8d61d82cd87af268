"""Scores of aggregated queries against the segments of an inverted file, and the best of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.arrays import Float64
from resight.errors import UsageError
from resight.index.aggregation import Aggregated
from resight.index.asmk_kernels import finish, highest, score_binary, score_vectors
from resight.index.binarisation import PLANES, STEP
from resight.index.inverted import Segment, lanes_per_signature
from resight.index.posting_codes import lanes_of
from resight.ties import nearest
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
        return np.sort(np.concatenate([np.empty(0, np.int64), *(s.live_rows for s in self.segments)]))

    @cached_property
    def word_weights(self) -> Float64:
        """(ln(N / df))^2 of every word, (W,); 1 for a word of no image, and for every word without idf."""
        weights = np.ones(self.words)
        if self.kernel.idf and self.segments:
            frequency = np.sum([s.postings_per_word for s in self.segments], axis=0)
            weights[frequency > 0] = np.log(len(self.rows) / frequency[frequency > 0]) ** 2
        return weights

    @cached_property
    def columns(self) -> list[Int64]:
        """Per segment, where its live images stand in `rows`, ascending."""
        return [np.searchsorted(self.rows, s.live_rows) for s in self.segments]

    @cached_property
    def factors(self) -> list[Float64]:
        """Per segment, 1 / sqrt(n_d) of each image, dead ones too."""
        return [_inverse_root(self._sizes(s)) for s in self.segments]

    @cached_property
    def table(self) -> Float64:
        """`Kernel.table` of the codebook's bits."""
        return self.kernel.table(self.bits)

    def _sizes(self, segment: Segment) -> Float64:
        if not self.kernel.idf:
            return segment.sizes.astype(np.float64)
        weights = np.repeat(self.word_weights, np.diff(segment.offsets))
        return np.asarray(np.bincount(segment.images(), weights, len(segment.rows)), np.float64)


@dataclass(frozen=True, eq=False)
class _Block:
    """Some queries, ready to be compared: query q owns words starts[q]:starts[q + 1] of `words`, whose `values` are
    lanes or unit residuals, and `weights` what a match of each counts. `factors`: 1 / sqrt(n_q).
    """

    starts: Int64
    words: Int64
    values: NDArray[Any]
    weights: Float64
    factors: Float64


def score_blocks(snapshot: Snapshot, queries: Aggregated, count: int) -> Iterator[tuple[slice, Float64]]:
    """Scores of `count` queries, some at a time: a slice of queries and their scores (q, N) float64, columns as `rows`.

    A block has a million cells or, if there are more images, one query: 24 bytes a cell while it is filled.
    """
    for block, ready in _blocks(snapshot, queries, count):
        scores = np.zeros((len(ready.factors), len(snapshot.rows)))

        def score(number: int, first: int, sums: Float64, scores: Float64 = scores) -> None:
            parts = slice(first, first + len(sums))
            alive, factors = snapshot.segments[number].alive, snapshot.factors[number]
            scores[parts, snapshot.columns[number]] = (sums * factors)[:, alive]

        _compare_all(snapshot, ready, score)
        yield block, scores * ready.factors[:, None]


def rank_blocks(snapshot: Snapshot, queries: Aggregated, count: int, k: int) -> Iterator[tuple[slice, Int64, Float32]]:
    """The `k` best of `count` queries, some at a time: a slice of queries, columns (q, k) of `rows` and their scores.

    Blocks as in `score_blocks`, 12 bytes a cell. Every segment gives its own best, and the best of these are the best.
    """
    for block, ready in _blocks(snapshot, queries, count):
        scores = [np.empty((len(ready.factors), len(s)), np.float32) for s in snapshot.segments]

        def score(
            number: int, first: int, sums: Float64, scores: list[Float32] = scores, ready: _Block = ready
        ) -> None:
            parts = slice(first, first + len(sums))
            alive, factors = snapshot.segments[number].alive, snapshot.factors[number]
            finish(sums, factors, ready.factors[parts], alive, scores[number][parts])

        _compare_all(snapshot, ready, score)
        yield block, *best(scores, snapshot.columns, len(ready.factors), k)


def score_image(snapshot: Snapshot, image: Segment, shared: Aggregated, words: Int64) -> float:
    """Score, but for 1 / sqrt(n_d), of one query against a segment of one image.

    `shared`: the query where the image has words; `words`: all words of the query, ascending, which n_q counts.
    """
    weights = shared.match_weights * snapshot.word_weights[shared.words]
    values = _values(snapshot, shared)
    ready = _Block(np.array([0, len(shared)]), shared.words, values, weights, np.ones(1))
    score = np.zeros((1, 1))
    _compare(snapshot, ready, slice(0, 1), image, score)
    return float((score[:, 0] * _inverse_root(snapshot.word_weights[words].sum(keepdims=True)))[0])


def best(parts: list[Float32], columns: list[Int64], count: int, k: int) -> tuple[Int64, Float32]:
    """Columns of the `k` highest of `count` queries, best first, ties by column, and their scores, (Q, k) each.

    `parts` hold the scores (Q, n) of some `columns` (n,) ascending each. Ties are those of `resight.ties`, within a
    millionth of the best of them, and get one score.
    """
    total = sum(len(one) for one in columns)
    found, _, levels = nearest(lambda which, m: _highest(parts, columns, which, m), count, min(k, total), total)
    return found, levels.astype(np.float32)


def _highest(parts: list[Float32], columns: list[Int64], which: Int64, m: int) -> tuple[Int64, Float32]:
    """Columns and scores of the `m` highest of queries `which`, in any order; of equal ones the first."""
    places, values = [], []
    for part, own in zip(parts, columns, strict=True):
        rows = part if len(which) == len(part) else part[which]
        chosen = np.empty((len(rows), min(m, len(own))), np.int64)
        highest(rows, chosen)
        places.append(own[chosen])
        values.append(np.take_along_axis(rows, chosen, axis=1))
    found, scores = np.concatenate(places, axis=1), np.concatenate(values, axis=1)
    if found.shape[1] > m:
        order = np.lexsort((found, -scores), axis=1)[:, :m]
        found, scores = np.take_along_axis(found, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return found, scores


def _blocks(snapshot: Snapshot, queries: Aggregated, count: int) -> Iterator[tuple[slice, _Block]]:
    step = max(CELLS // max(len(snapshot.rows), 1), 1)
    starts = np.searchsorted(queries.rows, np.arange(count + 1))
    weights = queries.match_weights * snapshot.word_weights[queries.words]
    factors = _inverse_root(np.bincount(queries.rows, weights, count))
    values = _values(snapshot, queries)
    for first in range(0, count, step):
        block = slice(first, min(first + step, count))
        yield block, _Block(starts[first : block.stop + 1], queries.words, values, weights, factors[block])


def _values(snapshot: Snapshot, queries: Aggregated) -> NDArray[Any]:
    """The residuals of queries as the kernels take them."""
    planes = snapshot.kernel.planes
    return lanes_of(queries.values, snapshot.bits, planes) if planes else queries.values


def _compare_all(snapshot: Snapshot, ready: _Block, take: Callable[[int, int, Float64], None]) -> None:
    """Give `take` the number of a segment, the first of some queries, and their sums over its images (q, n): one task
    per segment and share of the queries, on as many threads as processors. No sum depends on the tasks.
    """
    count, workers = len(ready.factors), os.cpu_count() or 1
    share = -(-count // workers)

    def run(task: tuple[int, int]) -> None:
        number, first = task
        queries = slice(first, min(first + share, count))
        sums = np.zeros((queries.stop - first, len(snapshot.segments[number].rows)))
        _compare(snapshot, ready, queries, snapshot.segments[number], sums)
        take(number, first, sums)

    tasks = [(number, first) for number in range(len(snapshot.segments)) for first in range(0, count, max(share, 1))]
    if len(tasks) == 1:
        run(tasks[0])
    elif tasks:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(run, tasks))


def _compare(snapshot: Snapshot, ready: _Block, queries: slice, segment: Segment, sums: Float64) -> None:
    """Add up in `sums` (q, n) what the words of some queries give the images of a segment."""
    ours = (ready.starts[queries.start : queries.stop + 1], ready.words, ready.values, ready.weights)
    theirs = (segment.offsets, segment.begins, segment.codes, segment.values)
    kernel = snapshot.kernel
    if kernel.binary:
        width = lanes_per_signature(snapshot.bits)
        segment.sound(score_binary(*ours, *theirs, width, snapshot.table, kernel.planes, sums))
    else:
        segment.sound(score_vectors(*ours, *theirs, kernel.alpha, kernel.tau, sums))


def _inverse_root(sizes: NDArray[Any]) -> Float64:
    return np.asarray(np.divide(1, np.sqrt(sizes), out=np.zeros(len(sizes)), where=sizes > 0), np.float64)
