"""Approximate nearest neighbours by inner product, with a recall that is measured, for collections beyond exact search.

Inverted lists (Sivic and Zisserman, ICCV 2003; Jegou, Douze, Schmid, TPAMI 2011) over the faiss library.
"""

from __future__ import annotations

import json
import threading
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from resight.errors import ArrayError, UsageError
from resight.index.exact import ExactIndex, checked_entries, finite_vectors
from resight.index.inverted_lists import (
    BLOCK,
    EXACT,
    FILTERED_SHARE,
    Blocks,
    Effort,
    blocks,
    build,
    empty_lists,
    lists_for,
    measure,
    read_list,
    write_list,
)
from resight.products import lengths, longest
from resight.store.tensor_file import read_tensors, write_tensors
from resight.ties import nearest
from resight.types import Bool, Float32, Int64, Ranking, as_array

FORMAT = "resight approximate index 1"
OUTGROWN = 2  # lists are learnt anew when there are so many times the vectors that they were measured on
FLOAT_VALUES = 2**26  # N x D up to which `choose_index` searches float32 exactly: 256 MiB
HALF_VALUES = 2**28  # and float16: 512 MiB
PARAMETERS: Any = faiss.SearchParametersIVF  # faiss's own types lack its keywords


class ApproximateIndex:
    """Vectors (N, D) by row number in inverted lists, a few of which each query scans; score = inner product.

    Below 10 000 vectors there is one list, and the search is exact. Above, twice sqrt N lists are learnt by k-means,
    and again when N has doubled. As many are scanned as give `recall` of the `k` nearest neighbours of 256 stored
    vectors against exact search; `effort` keeps what was measured. `half`: vectors are kept as float16.
    One operation runs at a time, others wait. Memory: the vectors and 16 bytes a row; twice that while learning lists.
    Raises `UsageError` on a recall outside (0, 1], a `k` or dimension below 1, a seed that is no 31-bit number.
    """

    def __init__(self, dim: int, *, half: bool = True, recall: float = 0.98, k: int = 100, seed: int = 0) -> None:
        if dim < 1 or k < 1:
            raise UsageError(f"dim={dim}, k={k}: both start at 1")
        if not 0 < recall <= 1 or not 0 <= seed < 2**31:
            raise UsageError(f"recall={recall}, seed={seed}: give a recall above 0, at most 1, and a 31-bit number")
        self.dim, self.half, self.target, self.k, self.seed = dim, half, float(recall), k, seed
        self.effort = EXACT
        self._lists = empty_lists(np.zeros((1, dim), np.float32), half)
        self._rows, self._length = np.empty(0, np.int64), 0.0  # of the longest vector
        self._lock = threading.RLock()

    @staticmethod
    def over(vectors: Any, *, half: bool = True, recall: float = 0.98, k: int = 100, seed: int = 0) -> ApproximateIndex:
        """An index over `vectors` (N, D) as rows 0 to N - 1; arguments as of the class."""
        vectors = finite_vectors(vectors, None, half)
        index = ApproximateIndex(vectors.shape[1], half=half, recall=recall, k=k, seed=seed)
        index._insert(np.arange(len(vectors)), vectors)
        return index

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> Int64:
        """Rows in the index, ascending, (N,) int64."""
        return self._rows.copy()

    @property
    def lists(self) -> int:
        """Number of inverted lists."""
        return int(self._lists.nlist)

    def add(self, rows: Any, vectors: Any) -> None:
        """Add `vectors` (n, D) under `rows` (n,), in any order.

        Raises `UsageError` when a row is in the index already: that is `update`; `ArrayError` on other shapes, negative
        or repeated rows, NaN or infinity, and with `half` values beyond 65504.
        """
        rows, vectors = checked_entries(rows, vectors, self.dim, self.half)
        with self._lock:
            held = rows[_among(rows, self._rows)]
            if len(held):
                raise UsageError(f"row {held[0]} is in the index already: use update to replace it")
            self._insert(rows, vectors)

    def remove(self, rows: Any) -> None:
        """Take `rows` (n,) out. Raises `UsageError` when a row is not in the index."""
        rows = as_array("rows", rows, np.int64, (None,))
        with self._lock:
            absent = rows[~_among(rows, self._rows)]
            if len(absent):
                raise UsageError(f"row {absent[0]} is not in the index: nothing was removed")
            self._drop(rows)

    def update(self, rows: Any, vectors: Any) -> None:
        """Replace the vectors of `rows`; a row that is not in the index is added. Arguments as for `add`."""
        rows, vectors = checked_entries(rows, vectors, self.dim, self.half)
        with self._lock:
            self._drop(rows)
            self._insert(rows, vectors)

    def search(self, queries: Any, k: int, allowed: Any = None) -> Ranking:
        """About the `k` best rows of each query (Q, D), fewer where the scanned lists hold fewer; ties by row.

        Ties are those of `resight.ties`. Scores are float32 sums: equal vectors score equally, on one processor.
        `allowed` (n,): rows that may be returned; those not in the index are passed over. When they are less than a
        tenth of the rows, all of them are compared, and the search is exact; else more lists are scanned than without
        a filter, as many as a random tenth needs. Raises `UsageError` unless k is at least 1, `ArrayError` on bad
        queries.
        """
        if k < 1:
            raise UsageError(f"{k} results were asked for: give at least 1")
        points = finite_vectors(queries, self.dim)
        chosen = None if allowed is None else np.unique(as_array("allowed", allowed, np.int64, (None,)))
        with self._lock:
            if chosen is not None:
                chosen = chosen[_among(chosen, self._rows)]
            count = len(self._rows) if chosen is None else len(chosen)
            width = min(k, count)
            if not width or not len(points):
                return Ranking(np.empty((len(points), width), np.int64), np.empty((len(points), width), np.float32))
            parameters = self._parameters(chosen)
            ids, _, levels = nearest(
                lambda which, m: self._lists.search(points[which], m, params=parameters)[::-1],
                len(points),
                width,
                count,
                lengths(points) * self._length,
            )
        return Ranking(ids, np.where(ids < 0, -np.inf, levels))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all, with a checksum. Peak memory: three times the vectors.

        Raises `CollectionError` when that cannot be done.
        """
        with self._lock:
            read = [read_list(self._lists, number) for number in range(self.lists)]
            tensors = {
                "centroids": self._lists.quantizer.reconstruct_n(0, self.lists),
                "sizes": np.array([len(rows) for rows, _ in read], np.int64),
                "rows": np.concatenate([rows for rows, _ in read]),
                "vectors": np.concatenate([vectors for _, vectors in read]),
            }
            settings = {"half": self.half, "recall": self.target, "k": self.k, "seed": self.seed}
            facts = {"settings": json.dumps(settings), "effort": json.dumps(asdict(self.effort))}
        write_tensors(path, FORMAT, tensors, {**facts, "checksum": _checksum(tensors, facts)})

    @staticmethod
    def load(path: str | Path) -> ApproximateIndex:
        """Read what `save` wrote. Raises `CollectionError` when the file is missing, damaged or of another format."""
        index: ApproximateIndex = read_tensors(path, FORMAT, _restore)
        return index

    def _parameters(self, chosen: Int64 | None) -> Any:
        if chosen is None:
            return PARAMETERS(nprobe=self.effort.probes)
        few = len(chosen) < FILTERED_SHARE * len(self._rows)
        probes = self.lists if few else self.effort.filtered_probes
        return PARAMETERS(nprobe=probes, sel=faiss.IDSelectorBatch(chosen))

    def _insert(self, rows: Int64, vectors: Any) -> None:
        total = len(self._rows) + len(rows)
        if total > OUTGROWN * self.effort.measured_on and lists_for(total) > self.lists:
            held = self._lists

            def source() -> Blocks:
                yield from blocks(held)
                yield from _slices(rows, vectors)

            self._lists, near, points = build(source, total, self.dim, self.half, self.seed)
            self.effort = measure(self._lists, near, points, self.k, self.target, self.seed)
        else:
            for part, block in _slices(rows, vectors):
                self._lists.add_with_ids(block, part)
        self._rows, self._length = np.sort(np.concatenate([self._rows, rows])), max(self._length, longest(vectors))

    def _drop(self, rows: Int64) -> None:
        kept = self._rows[~np.isin(self._rows, rows)]
        if len(kept) < len(self._rows):
            self._lists.remove_ids(rows)
            self._rows = kept


def choose_index(count: int, dim: int) -> ExactIndex | ApproximateIndex:
    """An empty index fit for `count` vectors of dimension `dim`.

    Exact in float32 up to 256 MiB of vectors (32 000 of 2048 dimensions), exact in float16 up to 512 MiB (131 000 of
    2048), `ApproximateIndex` in float16 beyond. `benchmarks/approximate.py` measures the three.
    """
    if count * dim <= FLOAT_VALUES:
        return ExactIndex(dim)
    if count * dim <= HALF_VALUES:
        return ExactIndex(dim, half=True)
    return ApproximateIndex(dim)


def _among(wanted: Int64, rows: Int64) -> Bool:
    """Which of `wanted` (n,) are in `rows` (N,) ascending: with few of them far faster than `np.isin`."""
    if not len(rows):
        return np.zeros(len(wanted), bool)
    places = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return np.asarray(rows[places] == wanted)


def _slices(rows: Int64, vectors: Any) -> Blocks:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK], vectors[start : start + BLOCK].astype(np.float32)


def _checksum(tensors: dict[str, Any], facts: dict[str, str]) -> str:
    total = zlib.crc32(json.dumps([facts["settings"], facts["effort"]]).encode())
    for name in sorted(tensors):
        total = zlib.crc32(np.ascontiguousarray(tensors[name]).view(np.uint8).data, total)
    return f"{total:08x}"


def _restore(tensors: dict[str, Any], metadata: dict[str, str]) -> ApproximateIndex:
    """The index in a file, of which nothing is believed: it may be damaged, or written by someone else."""
    if metadata["checksum"] != _checksum(tensors, metadata):
        raise ValueError("its content is not what was written")
    centroids: Float32 = finite_vectors(tensors["centroids"], None)
    index, effort = (
        _empty(centroids.shape[1], json.loads(metadata["settings"])),
        _effort(json.loads(metadata["effort"])),
    )
    half = index.half
    vectors = finite_vectors(tensors["vectors"], index.dim, half)
    rows = as_array("rows", tensors["rows"], np.int64, (len(vectors),))
    index._rows, _ = checked_entries(rows, np.zeros((len(rows), 1)), 1, half)
    sizes = as_array("sizes", tensors["sizes"], np.int64, (len(centroids),))
    if not len(sizes) or (sizes < 0).any() or (sizes > len(rows)).any() or sizes.sum() != len(rows):
        raise ArrayError(f"{len(sizes)} lists of {sizes.sum()} vectors do not hold {len(rows)} rows")
    if not {effort.probes, effort.filtered_probes} <= set(range(1, len(sizes) + 1)):
        raise ArrayError(f"{effort.probes} and {effort.filtered_probes} lists to scan, of {len(sizes)}")
    index.effort, index._lists, index._length = effort, empty_lists(centroids, half), longest(vectors)
    ends = np.cumsum(sizes)
    for number in np.flatnonzero(sizes).tolist():
        span = slice(int(ends[number] - sizes[number]), int(ends[number]))
        write_list(index._lists, number, np.ascontiguousarray(rows[span]), vectors[span])
    return index


def _empty(dim: int, facts: dict[str, Any]) -> ApproximateIndex:
    recall, k, seed = float(facts["recall"]), int(facts["k"]), int(facts["seed"])
    try:
        return ApproximateIndex(dim, half=bool(facts["half"]), recall=recall, k=k, seed=seed)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _effort(facts: dict[str, Any]) -> Effort:
    probes, filtered, count = (int(facts[name]) for name in ("probes", "filtered_probes", "measured_on"))
    return Effort(probes, float(facts["recall"]), filtered, float(facts["filtered_recall"]), count)
