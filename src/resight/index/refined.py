"""Nearest neighbours among a million vectors and more: codes of one bit a dimension in memory, the vectors on disk.

A query scans the codes of a few inverted lists, and what they propose is scored again from the float16 vectors of a
mapped file. So memory holds an eighth of a byte a dimension, and scores are exact.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numba import config
from numpy.typing import NDArray

from resight.errors import ArrayError, CollectionError, UsageError
from resight.index.exact import best_of, checked_entries, finite_vectors
from resight.index.half_precision import half_products
from resight.index.inverted_lists import FILTERED_SHARE, ITERATIONS, POINTS_PER_LIST, SAMPLE, TRAIN_FROM
from resight.index.kmeans import kmeans
from resight.index.sign_codes import (
    BLOCK,
    CodedEffort,
    candidates,
    empty_codes,
    lists_of,
    measure_effort,
    packed,
    read_codes,
    write_codes,
)
from resight.products import lengths, run_all
from resight.store.mapped_vectors import Extent, MappedVectors
from resight.store.tensor_file import read_tensors, write_tensors
from resight.ties import SLACK, nearest
from resight.types import Bool, Float32, Int64, Ranking, as_array

FORMAT = "resight refined index 1"
MOST_NEW = 0.5  # share of vectors that the lists were not learnt from, beyond which they are learnt anew
MOST_GONE = 0.25  # share of removed vectors in the file, beyond which it is written anew
ALONE = 4096  # scores that one thread computes sooner than another is woken
BITMAP: Any = faiss.IDSelectorBitmap  # faiss's own types lack what Python may pass
Blocks = Iterable[tuple[Any, Any]]


class RefinedIndex:
    """Vectors (N, D) by row number: codes in memory, float16 vectors in the file `path`; score = inner product.

    Below 10 000 vectors the search is exact. Above, lists (as many as the square root of N) are learnt by k-means from
    40 vectors each, and again when half of the vectors are newer. How many lists are scanned and how many candidates
    are scored again is measured: the cheapest that gives `recall` of the `k` nearest neighbours of 256 stored vectors,
    `effort` keeps what it was. Scores are those of `ExactIndex` in half precision; which candidates are found may
    differ between processors. One operation runs at a time, others wait. Memory: D / 8 + 25 bytes a vector and 4 D a
    list; 160 D a list more while learning, the codes twice while adding. The file takes 2 D bytes a vector.
    Raises `UsageError` on a recall outside (0, 1], a `k` or dimension below 1, a seed that is no 31-bit number, and
    `CollectionError` when the file cannot be written.
    """

    def __init__(
        self, dim: int, path: str | os.PathLike[str], *, recall: float = 0.98, k: int = 100, seed: int = 0
    ) -> None:
        self._settle(dim, recall, k, seed)
        self._vectors = MappedVectors.create(path, dim)

    def _settle(self, dim: int, recall: float, k: int, seed: int) -> None:
        if dim < 1 or k < 1:
            raise UsageError(f"dim={dim}, k={k}: both start at 1")
        if not 0 < recall <= 1 or not 0 <= seed < 2**31:
            raise UsageError(f"recall={recall}, seed={seed}: give a recall above 0, at most 1, and a 31-bit number")
        self.dim, self.target, self.k, self.seed = dim, float(recall), k, seed
        self.effort: CodedEffort | None = None
        self._codes: Any = None
        self._rows, self._gone, self._learnt = np.empty(0, np.int64), np.empty(0, bool), 0
        self._order: Any = None  # places by row, where rows do not rise with them
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._rows) - int(self._gone.sum())

    @property
    def rows(self) -> Int64:
        """Rows in the index, ascending, (N,) int64."""
        return np.sort(self._rows[~self._gone])

    @property
    def lists(self) -> int:
        """Number of inverted lists."""
        return 1 if self._codes is None else int(self._codes.nlist)

    @property
    def path(self) -> Path:
        """The file of vectors."""
        return self._vectors.path

    def add(self, rows: Any, vectors: Any) -> None:
        """Add `vectors` (n, D) under `rows` (n,), in any order.

        Raises `UsageError` when a row is in the index already: that is `update`; `ArrayError` on other shapes, negative
        or repeated rows, NaN or infinity and values beyond 65504; `CollectionError` when the disk refuses.
        """
        self.extend([(rows, vectors)])

    def extend(self, blocks: Blocks) -> None:
        """`add` for a stream of blocks, rows (n,) and vectors (n, D) each: lists are learnt once, at its end.

        Memory: one block, and 9 bytes a row. Raises as `add` does, and nothing of the stream is added then.
        """
        with self._lock:
            first, extent, added = len(self._rows), self._vectors.extent, [np.empty(0, np.int64)]
            try:
                self._vectors.append(self._new_blocks(blocks, added))
                new = np.concatenate(added)
                if len(np.unique(new)) < len(new):
                    raise ArrayError("a row is given twice: rows of all blocks must differ")
            except BaseException:
                self._vectors.rewind(extent)
                raise
            self._rows, self._gone = np.append(self._rows, new), np.append(self._gone, np.zeros(len(new), bool))
            self._order = None
            if len(self) >= TRAIN_FROM and len(self._rows) - self._learnt > MOST_NEW * len(self._rows):
                self._learn()
            elif self._codes is not None:
                self._encode(np.arange(first, len(self._rows)))

    def remove(self, rows: Any) -> None:
        """Take `rows` (n,) out. Raises `UsageError` when a row is not in the index.

        The file keeps them until they are a quarter of it; then it is written anew, and lists are learnt anew.
        """
        rows = as_array("rows", rows, np.int64, (None,))
        with self._lock:
            places = self._places(rows)
            if (places < 0).any():
                raise UsageError(f"row {rows[places < 0][0]} is not in the index: nothing was removed")
            self._drop(places)

    def update(self, rows: Any, vectors: Any) -> None:
        """Replace the vectors of `rows`; a row that is not in the index is added. Arguments as for `add`."""
        rows, vectors = checked_entries(rows, vectors, self.dim, True)
        with self._lock:
            places = self._places(rows)
            self._drop(places[places >= 0])
            self.extend([(rows, vectors)])

    def search(self, queries: Any, k: int, allowed: Any = None) -> Ranking:
        """About the `k` best rows of each query (Q, D), fewer where the scanned lists hold fewer; ties by row.

        Scores are summed in double precision; ties are those of `resight.ties`. `allowed` (n,): rows that may be
        returned; those not in the index are passed over. When they are less than a tenth of the rows, all of them are
        compared, and the search is exact; else as much is scanned as a random tenth needs. Raises `UsageError` unless k
        is at least 1, `ArrayError` on bad queries.
        """
        if k < 1:
            raise UsageError(f"{k} results were asked for: give at least 1")
        points = finite_vectors(queries, self.dim)
        with self._lock:
            chosen = None if allowed is None else self._allowed(as_array("allowed", allowed, np.int64, (None,)))
            count = len(self) if chosen is None else len(chosen)
            width = min(k, count)
            if not width or not len(points):
                return Ranking(np.empty((len(points), width), np.int64), np.empty((len(points), width), np.float32))
            scale = lengths(points) * self._vectors.extent.longest
            ids, _, levels = nearest(self._proposals(points, chosen, width), len(points), width, count, scale)
        return Ranking(ids, np.where(ids < 0, -np.inf, levels))

    def near(self, rows: Any, k: int, *, exact: bool = False) -> tuple[Int64, Float32]:
        """About the `k` nearest rows of stored `rows` (n,), themselves left out: ids (n, k) int64 and scores, -1 and
        -inf behind the last. Scores are as computed, the same in both directions; ties rank by row. `exact`: all are
        compared. Raises `UsageError` for a row that the index lacks, and k < 1.
        """
        rows = as_array("rows", rows, np.int64, (None,))
        if k < 1:
            raise UsageError(f"{k} neighbours were asked for: give at least 1")
        with self._lock:
            places = self._places(rows)
            if (places < 0).any():
                raise UsageError(f"row {rows[places < 0][0]} is not in the index: add it first")
            points = self._vectors.values[places].astype(np.float32)
            proposals = self._proposals(points, np.flatnonzero(~self._gone) if exact else None, k + 1, exact)
            width = min(k + 1, len(self))
            ids, scores, _ = nearest(
                proposals, len(points), width, len(self), lengths(points) * self._vectors.extent.longest
            )
        return _without(rows, ids, scores.astype(np.float32), k)

    def scores(self, rows: Any, others: Any) -> Float32:
        """Inner products (n, m) of stored `rows` (n,) and stored rows `others` (n, m), -inf where those hold -1.

        Raises `UsageError` for a row that the index lacks.
        """
        rows = as_array("rows", rows, np.int64, (None,))
        others = as_array("others", others, np.int64, (len(rows), None))
        with self._lock:
            places = self._places(rows)
            near = np.where(others < 0, -1, self._places(others.ravel()).reshape(others.shape))
            for given, found in ((rows, places), (others[others >= 0], near[others >= 0])):
                if (found < 0).any():
                    raise UsageError(f"row {given[found < 0][0]} is not in the index: add it first")
            return refine(self._vectors.values[places].astype(np.float32), self._vectors.values, near)

    def by_lists(self) -> Int64:
        """Positions in `rows` (N,) in the order of the lists: vectors that look alike stand together."""
        with self._lock:
            if self._codes is None:
                return np.arange(len(self))
            order: Int64 = np.searchsorted(self.rows, self._rows[read_codes(self._codes)[1]])
            return order

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything but the vectors, which lie in their own file, as safetensors; whole or not at all.

        Raises `CollectionError` when that cannot be done. Peak memory: the codes three times.
        """
        with self._lock:
            tensors: dict[str, Any] = {"rows": self._rows, "gone": self._gone}
            if self._codes is not None:
                sizes, ids, codes = read_codes(self._codes)
                centroids = self._codes.quantizer.reconstruct_n(0, self.lists)
                tensors |= {"centroids": centroids, "sizes": sizes, "places": ids, "codes": codes}
            settings = {"dim": self.dim, "recall": self.target, "k": self.k, "seed": self.seed}
            effort = None if self.effort is None else asdict(self.effort)
            facts = {"settings": settings, "effort": effort, "learnt": self._learnt}
            extent = asdict(self._vectors.extent)
        write_tensors(os.fspath(path), FORMAT, tensors, {"facts": json.dumps(facts), "extent": json.dumps(extent)})

    @staticmethod
    def load(path: str | os.PathLike[str], vectors: str | os.PathLike[str]) -> RefinedIndex:
        """Read what `save` wrote, over the file of `vectors`, which may have grown since: what came later is left out.

        Raises `CollectionError` when a file is missing, damaged, shorter than it was, or of another index or format.
        """

        def build(tensors: dict[str, Any], metadata: dict[str, str]) -> RefinedIndex:
            return _restore(tensors, metadata, MappedVectors.open(vectors))

        index: RefinedIndex = read_tensors(os.fspath(path), FORMAT, build)
        return index

    def _new_blocks(self, blocks: Blocks, added: list[Int64]) -> Iterator[NDArray[Any]]:
        """The vectors of `blocks` in order of their rows, which are put into `added`."""
        for given, raw in blocks:
            rows, vectors = checked_entries(given, raw, self.dim, True)
            places = self._places(rows)
            if (places >= 0).any():
                raise UsageError(f"row {rows[places >= 0][0]} is in the index already: use update to replace it")
            added.append(rows)
            yield vectors

    def _places(self, rows: Int64) -> Int64:
        """Places of `rows` (n,) in the file, -1 for those that are not in the index."""
        if not len(self._rows):
            return np.full(len(rows), -1)
        if self._order is None and (np.diff(self._rows) <= 0).any():
            self._order = np.lexsort((~self._gone, self._rows)).astype(np.int32)  # the one that is left comes last
        order = slice(None) if self._order is None else self._order
        at = np.searchsorted(self._rows[order], rows, side="right") - 1
        places = at if self._order is None else self._order[at].astype(np.int64)
        places = np.maximum(places, 0)
        return np.where((self._rows[places] == rows) & ~self._gone[places], places, -1)

    def _drop(self, places: Int64) -> None:
        self._gone[places], self._order = True, None
        if self._codes is not None and len(places):
            self._codes.remove_ids(places)
        if self._gone.sum() > MOST_GONE * len(self._rows) and len(self._rows) >= TRAIN_FROM:
            self._rewrite()

    def _rewrite(self) -> None:
        """Write the file without what was removed, and learn anew."""
        kept, old = np.flatnonzero(~self._gone), self._vectors.values
        kept = kept[np.argsort(self._rows[kept])]
        fresh = MappedVectors.create(self._vectors.path, self.dim)  # what was mapped stays until it is let go
        fresh.append(old[kept[start : start + BLOCK]] for start in range(0, len(kept), BLOCK))
        self._vectors, self._rows, self._gone = fresh, self._rows[kept], np.zeros(len(kept), bool)
        self._codes, self.effort, self._learnt = None, None, 0
        if len(kept) >= TRAIN_FROM:
            self._learn()

    def _learn(self) -> None:
        places, rng = np.flatnonzero(~self._gone), np.random.default_rng(self.seed)
        number = lists_of(len(places))
        sample = np.sort(rng.choice(places, min(len(places), max(number * POINTS_PER_LIST, SAMPLE)), replace=False))
        points = self._vectors.values[sample].astype(np.float32)
        centroids = kmeans(points, number, seed=self.seed, iterations=ITERATIONS, spherical=True)
        del points
        self._codes, self._learnt = empty_codes(centroids), len(self._rows)
        self._encode(places)
        self.effort = measure_effort(self._codes, self._vectors.values, places, self.k, self.target, self.seed)

    def _encode(self, places: Int64) -> None:
        for start in range(0, len(places), BLOCK):
            part = places[start : start + BLOCK]
            self._codes.add_with_ids(self._vectors.values[part].astype(np.float32), part)
        self._codes = packed(self._codes)

    def _allowed(self, rows: Int64) -> Int64:
        places = self._places(np.unique(rows))
        return places[places >= 0]

    def _proposals(self, points: Float32, chosen: Int64 | None, k: int, exactly: bool = False) -> Any:
        """What `ties.nearest` takes for `k` results: rows and scores of the best, among the places `chosen`."""
        few = chosen is not None and len(chosen) < FILTERED_SHARE * len(self)
        if self.effort is None or few or exactly:
            places = np.flatnonzero(~self._gone) if chosen is None else np.sort(chosen)

            def exact(which: Int64, m: int) -> tuple[Int64, Float32]:
                found, scores = best_of(points[which], self._vectors.values, places, m)
                return self._rows[found], scores

            return exact
        effort, selector = self.effort, None if chosen is None else _selector(chosen, len(self._rows))
        probes = effort.probes if chosen is None else effort.filtered_probes
        refined = effort.refined if chosen is None else effort.filtered_refined

        enough = max(refined, -(-refined * k // self.k))

        def coded(which: Int64, m: int) -> tuple[Int64, Float32]:
            count = min(max(m, enough * (m // (k + SLACK) or 1)), len(self))  # m grows where a tie goes on
            found = candidates(self._codes, points[which], count, probes, selector)
            return np.where(found < 0, -1, self._rows[found]), refine(points[which], self._vectors.values, found)

        return coded


def refine(queries: Float32, vectors: NDArray[np.float16], places: Int64) -> Float32:
    """Inner products (Q, m) of queries (Q, D) and the float16 `vectors` (N, D) at `places` (Q, m), in double precision
    and rounded once; -inf at a place of -1. Mapped vectors are read in the order of the file."""
    scores = np.full(places.shape, -np.inf, np.float32)
    wanted = np.flatnonzero(places >= 0)
    wanted = wanted[np.argsort(places.ravel()[wanted], kind="stable")]
    threads = config.NUMBA_NUM_THREADS if len(wanted) > ALONE else 1
    bits = vectors.view(np.uint16)
    with ThreadPoolExecutor(threads) as pool:
        run_all(
            pool, half_products, ((queries, bits, places, part, scores) for part in np.array_split(wanted, threads))
        )
    return scores


def _without(rows: Int64, ids: Int64, scores: Float32, k: int) -> tuple[Int64, Float32]:
    """Lists of `k` without the row itself, the rest moved up in order."""
    hidden = (ids == rows[:, None]) | (ids < 0)
    order = np.argsort(hidden, axis=1, kind="stable")[:, :k]
    near, values = np.full((len(rows), k), -1), np.full((len(rows), k), -np.inf, np.float32)
    width = order.shape[1]
    near[:, :width] = np.take_along_axis(np.where(hidden, -1, ids), order, axis=1)
    values[:, :width] = np.take_along_axis(np.where(hidden, np.float32(-np.inf), scores), order, axis=1)
    return near, values


def _selector(places: Int64, count: int) -> Any:
    mask = np.zeros(count, bool)
    mask[places] = True
    return BITMAP(np.packbits(mask, bitorder="little"))


def _restore(tensors: dict[str, Any], metadata: dict[str, str], vectors: MappedVectors) -> RefinedIndex:
    """The index in a file, of which nothing is believed: it may be damaged, or written by someone else."""
    facts, extent = json.loads(metadata["facts"]), Extent(**json.loads(metadata["extent"]))
    vectors.rewind(extent)
    settings = {name: facts["settings"][name] for name in ("dim", "recall", "k", "seed")}
    index = RefinedIndex.__new__(RefinedIndex)
    try:
        index._settle(int(settings["dim"]), float(settings["recall"]), int(settings["k"]), int(settings["seed"]))
    except UsageError as error:
        raise ValueError(str(error)) from error
    if index.dim != vectors.extent.dim:
        raise CollectionError(f"{vectors.path} holds vectors of {vectors.extent.dim} dimensions, not {index.dim}")
    index._vectors, index._learnt = vectors, int(facts["learnt"])
    index._rows = as_array("rows", tensors["rows"], np.int64, (len(vectors),))
    gone: Bool = as_array("gone", tensors["gone"], bool, (len(vectors),))
    index._gone = gone.copy()
    left = np.sort(index._rows[~gone])
    if (left < 0).any() or (np.diff(left) == 0).any():
        raise ArrayError("rows are negative or repeated")
    if facts["effort"] is not None:
        _restore_codes(index, tensors, facts["effort"])
    return index


def _restore_codes(index: RefinedIndex, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
    centroids: Float32 = finite_vectors(tensors["centroids"], index.dim)
    codes = empty_codes(centroids)
    sizes = as_array("sizes", tensors["sizes"], np.int64, (len(centroids),))
    places = as_array("places", tensors["places"], np.int64, (len(index),))
    data = as_array("codes", tensors["codes"], np.uint8, (len(index), codes.code_size))
    if (sizes < 0).any() or (sizes > len(index)).any() or sizes.sum() != len(index):
        raise ArrayError(f"{len(sizes)} lists of {sizes.sum()} codes do not hold {len(index)} vectors")
    if not np.array_equal(np.sort(places), np.flatnonzero(~index._gone)):
        raise ArrayError("the codes are not those of the vectors")
    effort = CodedEffort(**{name: facts[name] for name in CodedEffort.__dataclass_fields__})
    numbers = (effort.probes, effort.refined, effort.filtered_probes, effort.filtered_refined, effort.measured_on)
    if not all(isinstance(one, int) and 0 < one < 2**40 for one in numbers):
        raise ArrayError(f"an effort of {numbers} cannot be")
    write_codes(codes, sizes, places, data)
    index._codes, index.effort = codes, effort
