"""One shard: an ordinary collection that answers for its own photos, by rows that are global.

A global row is the number of the shard and the row within it, so that rows rise from shard to shard: photos that were
split in order keep their order, and with it the rule for ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from resight.cluster.layout import ROW_BITS
from resight.collection.info import info_of
from resight.collection.open import open_collection
from resight.errors import CollectionError
from resight.index.exact import ExactIndex
from resight.types import Float32, Int64, LocalFeatures

if TYPE_CHECKING:
    import pyarrow as pa

    from resight.collection.answer import Info
    from resight.index.asmk import Aggregated
    from resight.matching.geometry import Verification
    from resight.store.stamp import Stamp


NO_ROWS = np.empty(0, np.int64)
Rows = TypeVar("Rows", int, Int64)


def shard_of(rows: Rows) -> Rows:
    """The shard of a global row, or of each of several."""
    return rows >> ROW_BITS


def within(rows: Rows) -> Rows:
    """The row of a global row, or of each of several, within its shard."""
    return rows & ((1 << ROW_BITS) - 1)


@dataclass(frozen=True, eq=False)
class State:
    """What shard `number` says of itself: its `stamp`, the fingerprints of its `codebooks` by key of their kind and of
    its `whitening`; global rows of its photos in the index of each kind (`indexed`), with `features`, and of `all`; and
    those that a stopped run left in an index in vain, or out of it. `vectors`: how many there are, the `longest` of
    which is so long."""

    number: int
    stamp: Stamp
    codebooks: dict[str, str]
    indexed: dict[str, Int64]
    whitening: str
    features: Int64
    all: Int64
    gone: Int64
    lacking: Int64
    vectors: int
    longest: float


class Shard:
    """The collection at `path` as shard `number`. Every method takes and gives plain values, which travel."""

    def __init__(self, path: str, number: int) -> None:
        self._snapshot = open_collection(path).snapshot
        self._number, self._first = number, number << ROW_BITS

    def state(self) -> State:
        """What it is and holds; loads its indexes."""
        snapshot, vectors = self._snapshot, self._vectors()
        kinds = {key: found.index for key, found in snapshot.inverted_files.items()}
        gone, lacking = snapshot.differences
        return State(
            self._number,
            snapshot.stamp,
            {key: index.codebook.fingerprint for key, index in kinds.items() if index is not None},
            {
                key: self._first + (np.empty(0, np.int64) if index is None else index.rows)
                for key, index in kinds.items()
            },
            "" if snapshot.whitening is None else snapshot.whitening.fingerprint,
            self._first + snapshot.tables.feature_rows,
            self._first + snapshot.tables.rows,
            self._first + gone,
            self._first + lacking,
            0 if vectors is None else len(vectors),
            0.0 if vectors is None else vectors.longest,
        )

    def info(self) -> Info:
        """Counts, sizes and settings of this shard."""
        return info_of(self._snapshot, 0.0)

    def dense(self, key: str, queries: Aggregated, count: int) -> tuple[Int64, Float32]:
        """Rows in the index of one kind of local features, and the scores of queries against each."""
        found = self._snapshot.kind(key)
        if found is None:
            return np.empty(0, np.int64), np.empty((count, 0), np.float32)
        rows, scores = found.index.dense(queries, count)
        return self._first + rows, scores

    def score(self, key: str, row: int, descriptors: Float32, words: Int64) -> float:
        """As `resight.index.asmk.Asmk.score`."""
        found = self._snapshot.kind(key)
        return 0.0 if found is None else found.index.score(within(row), descriptors, words)

    def verify(self, query: LocalFeatures, rows: Int64) -> list[Verification]:
        """The verification of a query against photos of this shard."""
        verifier = self._snapshot.verifier
        return [] if verifier is None else verifier(query, within(rows))

    def packed(self, rows: Int64, key: str) -> list[bytes]:
        """The packed features of photos of this shard."""
        return self._snapshot.tables.local(within(rows), key)

    def counts(self, rows: Int64, key: str) -> Int64:
        """Their numbers of features."""
        return self._snapshot.tables.counts(within(rows), key)

    def candidates(self, queries: Float32, k: int, allowed: Int64 | None) -> tuple[Int64, Float32]:
        """The best by global descriptors, as `resight.index.exact.ExactIndex.candidates`."""
        vectors = self._vectors()
        if vectors is None:
            return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        rows, scores = vectors.candidates(queries, k, None if allowed is None else within(allowed))
        return self._first + rows, scores

    def vector(self, row: int) -> Float32 | None:
        """The descriptor of one photo as searches compare it."""
        return self._snapshot.vector(within(row))

    def find(self, column: str, values: list[Any], columns: list[str]) -> pa.Table:
        """Photos whose `column` is one of `values`, with their global rows."""
        import pyarrow as pa

        asked = [int(row) for row in within(np.asarray(values, np.int64))] if column == "row" else values
        table = self._snapshot.tables.find(column, asked, columns)
        if "row" not in columns:
            return table
        rows = pa.array(self._first + table["row"].to_numpy())
        return table.set_column(table.schema.get_field_index("row"), table.schema.field("row"), rows)

    def rows_where(self, condition: str) -> Int64:
        """Rows that fit an SQL condition on table `images`."""
        return self._first + self._snapshot.rows_where(condition)

    def _vectors(self) -> ExactIndex | None:
        index = self._snapshot.vector_index
        if index is not None and not isinstance(index, ExactIndex):
            raise CollectionError(
                f"{self._snapshot.path} holds more vectors than are searched exactly, and approximate answers of "
                "shards cannot be merged into the same order: split the collection into more shards"
            )
        return index


def ask(shard: Shard, method: str, arguments: tuple[Any, ...]) -> Any:
    """The answer of one method of a shard."""
    return getattr(shard, method)(*arguments)
