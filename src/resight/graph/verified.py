"""Verified graphs: edges that geometry proves, weighted by the number of matched features that agree.

Papers: Chang et al., "Explore-Exploit Graph Traversal for Image Retrieval", CVPR 2019, and Liu et al., "Guided
Similarity Separation for Image Retrieval", NeurIPS 2019, use such graphs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import check_graph
from resight.progress import Progress, silent
from resight.store.block_log import BlockLog
from resight.types import Int64, KnnGraph, as_array

Array = NDArray[Any]
Verify = Callable[[int, Int64], Any]
BLOCK = 32  # rows verified before they are written down: some minutes of work are lost at most


def build_verified_graph(
    candidates: KnnGraph,
    verify: Verify,
    *,
    least: int = 1,
    path: str | os.PathLike[str] | None = None,
    key: str = "",
    jobs: int | None = None,
    progress: Progress = silent,
) -> KnnGraph:
    """The edges of `candidates` (N, k) that `verify` proves, weighted by inliers: (N, k) lists, the most first.

    `verify(row, rows)` gives the inlier counts (n,) of photo `row` and each of `rows` (n,) int64, 0 for no proof. Each
    pair is verified once, whichever of the two lists the other, and weighs the same in both directions. Edges of fewer
    than `least` inliers are left out; of equal counts, the better candidate comes first.
    With a `path`, finished blocks of 32 photos are appended to that file, and a run that was killed goes on from there;
    a file of other candidates, or of another `key` (say, the settings of the verification), starts anew. Delete it
    when the graph is stored. `jobs` threads call `verify` at once (None: one per core), so it must allow that.
    Memory: 12 bytes per candidate edge.
    Raises `UsageError` for `least` < 1 or jobs < 1, `ArrayError` for a damaged graph, or counts that are no whole
    numbers of 0 or more, one per row, and `CollectionError` when the disk refuses.
    """
    if least < 1 or (jobs is not None and jobs < 1):
        raise UsageError(f"least={least} and jobs={jobs} must be at least 1")
    check_graph(candidates)
    asked = _once(candidates.ids)
    log = None if path is None else BlockLog(Path(path), _fingerprint(candidates, key))
    inliers = np.zeros(candidates.ids.shape, np.int32)
    blocks = range(-(-len(candidates) // BLOCK))
    done = _restore(log, asked, inliers)
    progress("verifying", len(done), len(blocks))

    def run(block: int) -> tuple[int, Array]:
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        return block, _verify_rows(candidates.ids[rows], asked[rows], block * BLOCK, verify)

    for block, counts in _in_parallel(run, (b for b in blocks if b not in done), jobs or os.cpu_count() or 1):
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        inliers[rows][asked[rows]] = counts
        if log is not None:
            log.append(block, counts.astype("<i4").tobytes())
        done.add(block)
        progress("verifying", len(done), len(blocks))
    _mirror(candidates.ids, asked, inliers)
    return _proven(candidates, inliers, least)


def _in_parallel(run: Callable[[int], tuple[int, Array]], blocks: Any, jobs: int) -> Any:
    """Results of `run` in the order in which they end, of several at once by block. An error stops the others."""
    with ThreadPoolExecutor(jobs) as pool:
        waiting: set[Future[tuple[int, Array]]] = set()
        try:
            waiting.update(pool.submit(run, block) for block in islice(blocks, 2 * jobs))
            while waiting:
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from sorted((future.result() for future in ended), key=lambda result: result[0])
                waiting.update(pool.submit(run, block) for block in islice(blocks, len(ended)))
        finally:
            for future in waiting:
                future.cancel()


def _verify_rows(ids: Array, asked: Array, first: int, verify: Verify) -> Array:
    """Inlier counts of the asked edges of a block of rows, in their order, (n,) int32."""
    counts = [np.empty(0, np.int32)]
    for row in range(len(ids)):
        others = ids[row][asked[row]].astype(np.int64)
        if len(others):
            found = as_array("inlier counts", verify(first + row, others), np.int32, (len(others),))
            if found.min() < 0:
                raise ArrayError(f"verification of photo {first + row} counts {found.min()} inliers: 0 is the least")
            counts.append(found)
    return np.concatenate(counts)


def _restore(log: BlockLog | None, asked: Array, inliers: Array) -> set[int]:
    """Fill in the finished blocks of a run that was killed; gives their numbers."""
    done: set[int] = set()
    for block, content in log.finished() if log is not None else ():
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        counts = np.frombuffer(content, "<i4")
        if len(counts) == np.count_nonzero(asked[rows]) and block * BLOCK < len(asked):
            inliers[rows][asked[rows]] = counts
            done.add(block)
    return done


def _fingerprint(candidates: KnnGraph, key: str) -> str:
    digest = hashlib.sha256(f"{BLOCK} {candidates.ids.shape} {candidates.ids.dtype} {key}".encode())
    digest.update(candidates.ids.tobytes())
    return digest.hexdigest()


@njit(cache=True, nogil=True)
def _once(ids: Array) -> Array:
    """Which edges are verified where they stand: of two photos that list each other, those of the lower row."""
    asked = np.zeros(ids.shape, np.bool_)
    for i in range(ids.shape[0]):
        for slot in range(ids.shape[1]):
            j = ids[i, slot]
            if j < 0 or j == i:
                continue
            asked[i, slot] = True
            if j < i:
                for other in ids[j]:
                    if other == i:
                        asked[i, slot] = False
    return asked


@njit(cache=True, nogil=True)
def _mirror(ids: Array, asked: Array, inliers: Array) -> None:
    """Copy the count of each edge that was verified from the other side."""
    for i in range(ids.shape[0]):
        for slot in range(ids.shape[1]):
            j = ids[i, slot]
            if j >= 0 and j < i and not asked[i, slot]:
                for back in range(ids.shape[1]):
                    if ids[j, back] == i:
                        inliers[i, slot] = inliers[j, back]


def _proven(candidates: KnnGraph, inliers: Array, least: int) -> KnnGraph:
    counts = np.where((inliers >= least) & (candidates.ids >= 0), inliers, 0)
    order = np.argsort(-counts, axis=1, kind="stable")
    counts, ids = np.take_along_axis(counts, order, axis=1), np.take_along_axis(candidates.ids, order, axis=1)
    return KnnGraph(np.where(counts > 0, ids, -1), np.where(counts > 0, counts, -np.inf))
