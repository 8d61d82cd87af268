"""Global descriptors of a collection, as the stages that follow its kNN graph see them.

A graph numbers its nodes 0 to N - 1; a collection from which photos were removed has gaps in its rows. Stages work on
nodes and translate at their edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from resight.arrays import finite_rows
from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import row_dtype
from resight.index.exact import ExactIndex
from resight.products import pair_products
from resight.ranking.search import VectorIndex, global_vectors
from resight.types import Float32, Int64, KnnGraph, Queries, Ranking, as_array


@dataclass(frozen=True, eq=False)
class VectorDatabase:
    """`vectors` (N, D) float32, L2-normalised: node i is row `rows`[i] of the collection, (N,) int64 ascending.

    `index` finds the nearest rows of a query. Raises `ArrayError` when the parts do not fit together.
    """

    vectors: Float32
    rows: Int64
    index: VectorIndex

    def __post_init__(self) -> None:
        vectors = finite_rows("vectors", self.vectors)
        rows = as_array("rows", self.rows, np.int64, (len(vectors),))
        if (np.diff(rows) <= 0).any() or (rows[:1] < 0).any():
            raise ArrayError("rows must rise, and start at 0 or more: one row of the collection per vector")
        if len(self.index) != len(vectors):
            raise ArrayError(f"the index holds {len(self.index)} vectors, expected the same {len(vectors)}")
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "rows", rows)

    @staticmethod
    def over(vectors: Any, rows: Any = None) -> VectorDatabase:
        """A database searched exactly; without `rows`, node i is row i."""
        checked = finite_rows("vectors", vectors)
        if rows is None:
            return VectorDatabase(checked, np.arange(len(checked)), ExactIndex.over(checked))
        index = ExactIndex(max(checked.shape[1], 1))
        index.add(rows, checked)
        return VectorDatabase(checked, rows, index)

    def __len__(self) -> int:
        return len(self.rows)

    def nearest(self, queries: Queries, k: int) -> KnnGraph:
        """The `k` nodes nearest to each query, (Q, k) lists; a query that is a photo of the collection is not its own
        neighbour. Raises `UsageError` for k < 1 and queries without descriptors.
        """
        if k < 1:
            raise UsageError(f"{k} neighbours were asked for: at least 1 is needed")
        found = self.index.search(global_vectors(queries), k + 1)
        if queries.rows is None:
            return self._graph(found.top(k).ids, found.top(k).scores)
        own = found.ids == queries.rows[:, None]
        order = np.argsort(own | (found.ids < 0), axis=1, kind="stable")[:, :k]
        ids = np.take_along_axis(np.where(own, -1, found.ids), order, axis=1)
        return self._graph(ids, np.take_along_axis(np.where(own, -np.inf, found.scores), order, axis=1))

    def candidates(self, queries: Queries, ranking: Ranking | None, k: int) -> KnnGraph:
        """The first `k` results of `ranking` with their similarities to the queries; without one, the `k` nearest.

        The photo that a query is, and rows without a descriptor, do not count.
        """
        if ranking is None:
            return self.nearest(queries, k)
        points = global_vectors(queries)
        own = np.full(len(points), -1) if queries.rows is None else queries.rows
        head = np.where(ranking.ids == own[:, None], -1, ranking.ids)
        nodes = self.nodes(head)
        order = np.argsort(nodes < 0, axis=1, kind="stable")[:, :k]
        nodes = np.take_along_axis(nodes, order, axis=1)
        return KnnGraph(nodes.astype(row_dtype(len(self))), pair_products(points, self.vectors, nodes))

    def nodes(self, rows: Any) -> Int64:
        """The node of each row, -1 for rows without a descriptor; any shape."""
        rows = np.asarray(rows, np.int64)
        if not len(self):
            return np.full(rows.shape, -1)
        place = np.minimum(np.searchsorted(self.rows, rows), len(self) - 1)
        return np.where(self.rows[place] == rows, place, -1)

    def in_rows(self, found: Ranking) -> Ranking:
        """A ranking of nodes as a ranking of rows."""
        return Ranking(np.append(self.rows, -1)[found.ids], found.scores)

    def _graph(self, rows: Int64, weights: Float32) -> KnnGraph:
        return KnnGraph(self.nodes(rows).astype(row_dtype(len(self))), weights)


def ahead_of(found: Ranking, before: Ranking | None) -> Ranking:
    """`found`, and behind it what only `before` holds, in its order and with falling scores below those of `found`."""
    if before is None:
        return found
    ids, scores = [], []
    for query in range(len(found)):
        own = found.ids[query][found.ids[query] >= 0]
        rest = (before.ids[query] >= 0) & ~np.isin(before.ids[query], own)
        tail = before.scores[query][rest]
        best = found.scores[query][: len(own)]
        if len(own) and len(tail):
            tail = best[-1] - 1 - (tail[0] - tail)
        ids.append(np.concatenate((own, before.ids[query][rest])))
        scores.append(np.concatenate((best, tail)))
    return Ranking.from_lists(ids, scores)


def only(ranking: Ranking | None, query: int) -> Ranking | None:
    """The results of one query, alone."""
    return None if ranking is None else Ranking(ranking.ids[[query]], ranking.scores[[query]])


def checked_limit(limit: int | None) -> None:
    """Raises `UsageError` for a limit below 1; None means all."""
    if limit is not None and limit < 1:
        raise UsageError(f"a ranking cannot have {limit} results: at least 1 is needed")
