"""Is training still helping? Asked without labels: can hidden neighbours be found again?

Pairs of photos that list each other as neighbours, or pairs proven by geometry, very likely show the same thing. Some
are hidden: their edges are taken out of the graph. The better an embedding of what is left ranks them, the better it
joins photos whose descriptors alone do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.graph.propagation_matrix import Propagation, propagation_matrix
from resight.graph.separation import SimilaritySeparation
from resight.types import Float32, Int64, KnnGraph, as_array

SHARE = 0.1  # of the trusted pairs that is hidden
MOST = 1000  # hidden pairs: enough for the second digit
BLOCK = 512


@dataclass(frozen=True, eq=False)
class Watch:
    """`pairs` (P, 2) int64 rows that are hidden from `propagation`."""

    pairs: Int64
    propagation: Propagation


def hide_pairs(vectors: Float32, graph: KnnGraph, trusted: Any = None, seed: int = 0) -> Watch:
    """Hide a tenth of the `trusted` pairs (P, 2) of rows, 1000 at most, from `graph`; None: of the mutual neighbours.

    Raises `UsageError` when there is no pair to hide, `ArrayError` for rows that the graph lacks.
    """
    pairs = mutual_pairs(graph) if trusted is None else as_array("trusted", trusted, np.int64, (None, 2))
    if not len(pairs):
        raise UsageError("no two photos list each other as neighbours, so none can be hidden: give trusted pairs")
    if pairs.min() < 0 or pairs.max() >= len(graph):
        raise UsageError(f"trusted pairs name rows {pairs.min()} to {pairs.max()} of a graph of {len(graph)} nodes")
    size = min(MOST, max(1, int(SHARE * len(pairs))))
    chosen = pairs[np.sort(np.random.default_rng(seed).choice(len(pairs), size, replace=False))]
    return Watch(chosen, propagation_matrix(vectors, _without(graph, chosen)))


def mutual_pairs(graph: KnnGraph) -> Int64:
    """Pairs (P, 2) int64, i < j ascending, of rows that list each other."""
    rows, slots = np.nonzero(graph.ids >= 0)
    columns = graph.ids[rows, slots].astype(np.int64)
    keys, counts = np.unique(np.minimum(rows, columns) * len(graph) + np.maximum(rows, columns), return_counts=True)
    keys = keys[counts == 2]
    return np.stack([keys // len(graph), keys % len(graph)], axis=1)


def found_again(model: SimilaritySeparation, vectors: Float32, watch: Watch) -> float:
    """Mean reciprocal rank of the hidden partner of every hidden row, 0 to 1. Memory: that of `embed`."""
    embedded = model.embed(vectors, watch.propagation)
    return mean_reciprocal_rank(embedded, watch.pairs)


def mean_reciprocal_rank(vectors: Float32, pairs: Int64) -> float:
    """Mean over the pairs (P, 2), in both directions, of 1 / rank of the partner among all other rows of `vectors`."""
    rows, partners = np.concatenate([pairs, pairs[:, ::-1]]).T
    total = 0.0
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        scores = vectors[rows[part]] @ vectors.T
        own = np.arange(len(scores))
        wanted = scores[own, partners[part]][:, None]
        scores[own, rows[part]] = -np.inf
        # not >=: a score that is no number must not make its partner the first
        total += float((1 / np.maximum((~(scores < wanted)).sum(axis=1), 1)).sum())
    return total / len(rows)


def _without(graph: KnnGraph, pairs: Int64) -> KnnGraph:
    """`graph` without the edges between `pairs`, in both directions."""
    count = len(graph)
    keys = np.concatenate([pairs[:, 0] * count + pairs[:, 1], pairs[:, 1] * count + pairs[:, 0]])
    own: NDArray[Any] = np.arange(count)[:, None] * count + graph.ids
    ids = np.where((graph.ids >= 0) & ~np.isin(own, keys), graph.ids, -1)
    order = np.argsort(ids < 0, axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=1)
    weights = np.where(ids < 0, np.float32(-np.inf), np.take_along_axis(graph.weights, order, axis=1))
    return KnnGraph(ids, weights)
