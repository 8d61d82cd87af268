"""Where the judged rows of every query stand in its ranking: one pass over the ids, shared by all metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from resight.errors import ArrayError
from resight.types import Bool, Int64

_REPEATED, _BEHIND_END, _OUTSIDE = 1, 2, 3
_FAULTS = {
    _OUTSIDE: "hold ids outside the database",
    _BEHIND_END: "hold a result behind the end mark -1",
    _REPEATED: "name a row twice",
}
_BLOCK = 8  # queries
MAX_ROWS = 2**31  # what one pass can hold: a byte per database row


@dataclass(frozen=True, eq=False)
class Positions:
    """The M judged rows of Q queries, grouped by query: `query` (M,) int64, `position` (M,) int64 0-based place in the
    ranking or -1 where not retrieved, `label` (M,) int8 index into `labels`.
    """

    query: Int64
    position: Int64
    label: NDArray[np.int8]
    labels: tuple[str, ...]
    queries: int

    def mask(self, names: Sequence[str]) -> Bool:
        """True (M,) for the judged rows whose label is among `names`."""
        return np.isin(self.label, [self.labels.index(name) for name in names])


def locate(ids: ArrayLike, judged: Mapping[str, Sequence[Any]], database_size: int | None = None) -> Positions:
    """Find the judged rows of each query in `ids` (Q, K) integers, best first, -1 padded.

    `judged` maps a label (such as "easy" or "junk") to Q arrays of rows. One pass over the ids. Memory: one byte per
    database row; int32 and int64 rankings are not copied (eight at a time where they lie transposed). Raises
    `ArrayError`, naming the queries and their number, for repeated ids, results behind the end mark, ids or judged rows
    outside the database (`ids` below -1, or at least `database_size` when given), rows judged twice and an empty query
    set.
    """
    ranked = _check_ids(ids, {label: len(rows) for label, rows in judged.items()})
    size = database_size
    if size is None:
        size = 1 + max([int(ranked.max(initial=-1))] + [_largest(rows) for lists in judged.values() for rows in lists])
    query, rows, label = flatten(judged, len(ranked), size)
    starts = np.searchsorted(query, np.arange(len(ranked) + 1))
    position, faults = np.full(len(rows), -1, np.int64), np.zeros(len(ranked), np.int8)
    state = np.zeros(size, np.uint8)
    for first, block in _contiguous(ranked):
        _find(block, first, starts, rows, state, position, faults)
    for fault, what in _FAULTS.items():
        refuse(np.flatnonzero(faults == fault), f"rankings {what} (database of {size} rows)")
    return Positions(query, position, label, tuple(judged), len(ranked))


def flatten(
    judged: Mapping[str, Sequence[Any]], queries: int, database_size: int
) -> tuple[Int64, Int64, NDArray[np.int8]]:
    """The judged rows of all labels as flat arrays (query, row, label), each (M,), sorted by query, then row.

    Raises `ArrayError` for rows that are no integers, lie outside the database, or are judged twice for one query.
    """
    parts: list[NDArray[Any]] = []
    counts = []
    for label, lists in judged.items():
        arrays = [np.asarray(rows).ravel() for rows in lists]
        wrong = [q for q, rows in enumerate(arrays) if rows.size and rows.dtype.kind not in "iu"]
        refuse(np.array(wrong, np.int64), f"{label} rows are not integers")
        parts.extend(arrays)
        counts.append(np.array([rows.size for rows in arrays], np.int64))
    if database_size > MAX_ROWS:
        raise ArrayError(f"a database of {database_size} rows is named: up to {MAX_ROWS} rows are supported")
    row = np.concatenate([part.astype(np.int64) for part in parts])
    query = np.repeat(np.tile(np.arange(queries), len(counts)), np.concatenate(counts))
    labels = np.repeat(np.arange(len(counts), dtype=np.int8), [count.sum() for count in counts])
    order = np.lexsort((row, query))
    query, row, labels = query[order], row[order], labels[order]
    outside = (row < 0) | (row >= database_size)
    refuse(np.unique(query[outside]), f"the ground truth names rows outside the {database_size} images")
    twice = (query[1:] == query[:-1]) & (row[1:] == row[:-1])
    refuse(np.unique(query[1:][twice]), "the ground truth judges a row twice")
    return query, row, labels


def refuse(queries: Int64, what: str) -> None:
    """Raise `ArrayError` "<what> in N queries: 3, 7, ..." unless `queries` is empty."""
    if len(queries):
        first = ", ".join(str(q) for q in queries[:5]) + (", ..." if len(queries) > 5 else "")
        raise ArrayError(f"{what} in {len(queries)} queries: {first}")


def _check_ids(ids: ArrayLike, lengths: Mapping[str, int]) -> NDArray[Any]:
    ranked = np.asarray(ids)
    if ranked.ndim != 2 or ranked.dtype.kind not in "iu":
        raise ArrayError(
            f"ids have shape {ranked.shape} and dtype {ranked.dtype}: (queries, results) of integers is needed"
        )
    if not len(ranked):
        raise ArrayError("there are no queries to score: the query set is empty")
    for label, length in lengths.items():
        if length != len(ranked):
            raise ArrayError(
                f"ids hold {len(ranked)} queries and the ground truth ({label}) {length}: give one row of ids per query"
            )
    return ranked if ranked.dtype in (np.int32, np.int64) else ranked.astype(np.int64)


def _largest(rows: Any) -> int:
    array = np.asarray(rows)
    return int(array.max()) if array.size else -1


def _contiguous(ids: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first query, block of queries) with each ranking contiguous: all at once, or copies of a cache line's width."""
    if ids.strides[1] == ids.itemsize:
        yield 0, ids
        return
    for first in range(0, len(ids), _BLOCK):
        yield first, _copied(ids[first : first + _BLOCK])


@njit(cache=True)
def _copied(ids: NDArray[Any]) -> NDArray[Any]:  # pragma: no cover  (compiled)
    # in the order of the memory of a transposed array, which is how (results, queries) arrays arrive
    out = np.empty(ids.shape, ids.dtype)
    for rank in range(ids.shape[1]):
        for q in range(ids.shape[0]):
            out[q, rank] = ids[q, rank]
    return out


@njit(cache=True)
def _find(
    ids: NDArray[Any],
    first: int,
    starts: Int64,
    rows: Int64,
    state: NDArray[np.uint8],
    position: Int64,
    faults: NDArray[np.int8],
) -> None:  # pragma: no cover  (compiled)
    # one byte per row keeps the random access in the processor cache: `turn` once the query of this turn has listed
    # the row, 128 + turn while it is judged and not yet seen; the table is cleared only when the turns run out
    for q in range(first, first + len(ids)):
        turn = q % 127 + 1
        if turn == 1:
            state[:] = 0
        judged = rows[starts[q] : starts[q + 1]]
        state[judged] = 128 + turn
        ended = False
        for rank in range(ids.shape[1]):
            row = ids[q - first, rank]
            if row == -1:
                ended = True
                continue
            if row < 0 or row >= len(state):
                faults[q] = _OUTSIDE
                break
            mark = state[row]
            if ended or mark == turn:
                faults[q] = _BEHIND_END if ended else _REPEATED
                break
            if mark == 128 + turn:
                position[starts[q] + np.searchsorted(judged, row)] = rank
            state[row] = turn
