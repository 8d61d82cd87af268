"""Databases that do not fit in memory: read descriptors in blocks, rank them exactly block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import ArrayLike, NDArray

from resight.arrays import finite_rows
from resight.errors import ArrayError, UsageError
from resight.evaluation.array_files import DAMAGED, h5_array, load_npy, open_h5
from resight.evaluation.feature_files import KEYS, for_suffix, parquet_vectors
from resight.graph.knn_graph import neighbours
from resight.products import lengths, longest
from resight.regular_files import check_regular
from resight.ties import SLACK, key_columns, key_scores, score_keys, tie_order
from resight.types import Float32, KnnGraph, Ranking, as_array

_BLOCK = 65536
_PART = 4096  # rows that are widened at a time


def stream_vectors(path: str | os.PathLike[str], dim: int, block: int = _BLOCK) -> Iterator[Float32]:
    """Blocks (b, `dim`) float32, b <= `block`, of the database descriptors in a .npy, .h5 or .parquet file, in order.

    Only one block is in memory. In .npy and .h5, descriptors are rows unless only the other side has length `dim`.
    Raises `UsageError` for other formats, or when no side is `dim` long.
    """
    source = Path(path)
    read: Callable[[Path, int, int], Iterator[Float32]] = for_suffix(source, _STREAMS)
    return read(source, dim, block)


def rank_blocks(queries: ArrayLike, blocks: Iterable[ArrayLike], k: int | None = None) -> Ranking:
    """Rank all database rows, given as consecutive blocks (b, D), by inner product with `queries` (Q, D).

    Keeps the best `k` per query (None: all), ties (`resight.ties`) in row order; of a tie that goes on for more than 16
    rows behind the last result, the best are kept. Products are summed in double precision. Peak memory: 40 bytes x Q x
    (k + b), and 8 D bytes for 4096 rows, besides one block.
    Raises `ArrayError` for unequal D, NaN or infinity in queries or blocks (with the number of rows), or no rows.
    """
    if k is not None and k < 1:
        raise UsageError(f"{k} results were asked for: at least 1 is needed")
    q = finite_rows("the query descriptors", queries)
    best = np.empty((len(q), 0), np.uint64)
    rows, length = 0, 0.0
    for block in blocks:
        x = finite_rows("the database descriptors", block, q.shape[1], first=rows)
        if rows + len(x) > 2**32:
            raise ArrayError(f"the database has more than {2**32} rows")
        best = _keep(np.concatenate([best, score_keys(_products(q, x), rows)], axis=1), k and k + SLACK)
        rows, length = rows + len(x), max(length, longest(x))
    if not rows:
        raise ArrayError("there are no database rows to rank")
    ids = key_columns(best)
    order, levels = tie_order(ids, key_scores(best), lengths(q) * length)
    return Ranking(np.take_along_axis(ids, order, axis=1)[:, :k], levels[:, :k])


def nearest_in_blocks(queries: ArrayLike, blocks: Iterable[Float32], k: int) -> KnnGraph:
    """The `k` rows nearest to each of `queries` (Q, D) among consecutive blocks (b, D), by inner product, (Q, k) lists.

    As `resight.graph.knn_graph.neighbours`, for descriptors that do not fit in memory: one block, and 40 bytes x Q x k.
    """
    q = finite_rows("the query descriptors", queries)
    ids, weights = np.empty((len(q), 0), np.int64), np.empty((len(q), 0), np.float32)
    rows, length = 0, 0.0
    for block in blocks:
        near = neighbours(q, block, min(k, len(block)))
        ids = np.concatenate((ids, near.ids + rows), axis=1)
        weights = np.concatenate((weights, near.weights), axis=1)
        rows, length = rows + len(block), max(length, longest(block))
        order = tie_order(ids, weights, lengths(q) * length)[0][:, :k]
        ids, weights = np.take_along_axis(ids, order, axis=1), np.take_along_axis(weights, order, axis=1)
    return KnnGraph(ids, weights)


def _products(q: Float32, x: Float32) -> Float32:
    """(Q, b) float32, the same on every processor."""
    result, wide = np.empty((len(q), len(x)), np.float32), q.astype(np.float64)
    for start in range(0, len(x), _PART):
        result[:, start : start + _PART] = wide @ x[start : start + _PART].T.astype(np.float64)
    return result


def _keep(keys: NDArray[np.uint64], k: int | None) -> NDArray[np.uint64]:
    if k is None or keys.shape[1] <= k:
        return keys
    keys.partition(keys.shape[1] - k, axis=1)
    return keys[:, -k:].copy()


def _stream_array(array: Any, path: Path, dim: int, block: int) -> Iterator[Float32]:
    if len(array.shape) != 2 or dim not in array.shape:
        raise UsageError(f"{path} holds an array of shape {tuple(array.shape)}: one side must be {dim} long")
    rows = array.shape[1] == dim
    for start in range(0, array.shape[0 if rows else 1], block):
        part = array[start : start + block] if rows else array[:, start : start + block].T
        yield as_array(str(path), part, np.float32, (None, dim))


def _stream_npy(path: Path, dim: int, block: int) -> Iterator[Float32]:
    try:
        array = load_npy(path, mapped=True)
    except DAMAGED as error:
        raise UsageError(f"cannot read descriptors from {path}: {error}") from error
    yield from _stream_array(array, path, dim, block)


def _stream_h5(path: Path, dim: int, block: int) -> Iterator[Float32]:
    try:
        with open_h5(path) as file:
            keys = [key for key in KEYS["X"] if key in file]
            if not keys:
                raise UsageError(f"{path} holds no X or vecs")
            yield from _stream_array(h5_array(file, keys[0]), path, dim, block)
    except UsageError:
        raise
    except DAMAGED as error:
        raise UsageError(f"cannot read descriptors from {path}: {error}") from error


def _stream_parquet(path: Path, dim: int, block: int) -> Iterator[Float32]:
    try:
        check_regular(path)
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=block, columns=["vector"]):
                yield as_array(str(path), parquet_vectors(batch.column(0), path), np.float32, (None, dim))
    except (OSError, pyarrow.ArrowException, KeyError) as error:
        raise UsageError(f"cannot read descriptors from {path}: {error}") from error


_STREAMS = {".npy": _stream_npy, ".h5": _stream_h5, ".hdf5": _stream_h5, ".parquet": _stream_parquet}
