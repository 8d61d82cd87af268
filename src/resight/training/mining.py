"""Hard negatives: for each query, the most similar photos of a pool that show something else, each another thing.

As in Radenovic et al. (TPAMI 2019), who mine five for each query out of 20 000 random photos, anew in every epoch.
Where nobody has said what photos show, geometry is asked about those that were found: a photo that it proves to show
what the query shows is no negative, and the two clusters are one from then on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.graph.components import components
from resight.index.exact import ExactIndex
from resight.training.data import Proven
from resight.types import Float32, Int64

FIRST = 64  # results that are walked through before more are asked for


def hard_negatives(queries: Float32, own: Int64, pool: Float32, clusters: Int64, count: int) -> Int64:
    """Places (Q, count) in the pool of the nearest photos of distinct clusters, none of them the query's.

    `queries` (Q, D) and their clusters `own` (Q,); `pool` (M, D) and its `clusters` (M,). Ties go to the first place.
    Memory: some of the best results of each query, all M of them where these are of too few clusters. Raises
    `UsageError` when the pool does not hold `count` other clusters.
    """
    others = len(np.unique(clusters))
    if others < count + 1 and (others < count or np.isin(own, clusters).any()):
        raise UsageError(
            f"{count} negatives of distinct clusters were asked for, and the pool of {len(pool)} photos holds {others} "
            "clusters: give more photos of other things, or fewer negatives"
        )
    index = ExactIndex.over(pool)
    found = np.full((len(queries), count), -1, np.int64)
    left, k = np.arange(len(queries)), FIRST
    while len(left):
        ids = index.search(queries[left], min(k, len(pool))).ids
        _walk(ids, clusters, own, left, found)
        left = left[found[left, -1] < 0]
        k *= 4
    return found


def proven_negatives(
    queries: Float32, rows: Int64, pool: Float32, pool_rows: Int64, clusters: Int64, count: int, proven: Proven | None
) -> tuple[Int64, Int64]:
    """Rows (Q, count) of negatives for the photos `rows` (Q,), from the photos `pool_rows` (M,), and the clusters (N,)
    of all photos, some of which are one where `proven` says that a photo found shows what the query shows.

    Raises as `hard_negatives` does.
    """
    known = clusters
    while True:
        found = pool_rows[hard_negatives(queries, known[rows], pool, known[pool_rows], count)]
        if proven is None:
            return found, known
        asked = np.repeat(rows, count)
        same = proven(asked, found.ravel())
        if not same.any():
            return found, known
        known = joined(known, np.stack((asked[same], found.ravel()[same]), axis=1))


def joined(clusters: Int64, pairs: Int64) -> Int64:
    """Clusters (N,) after those of the two photos of each of `pairs` (P, 2) have become one."""
    return components(clusters[pairs], int(clusters.max()) + 1)[clusters]


@njit(cache=True)
def _walk(
    ids: NDArray[Any], clusters: NDArray[Any], own: NDArray[Any], which: NDArray[Any], found: NDArray[Any]
) -> None:
    """Go down the results of each query and take the first of every cluster that is not taken yet."""
    for i in range(len(which)):
        q, taken = which[i], 0
        found[q, :] = -1
        for place in ids[i]:
            if taken == found.shape[1]:
                break
            if place < 0 or clusters[place] == own[q]:
                continue
            new = True
            for other in found[q, :taken]:
                if clusters[other] == clusters[place]:
                    new = False
            if new:
                found[q, taken] = place
                taken += 1
