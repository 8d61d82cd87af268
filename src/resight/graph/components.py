"""Groups of rows that pairs join, directly or through others: the connected components of a graph of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from resight.arrays import Int64, as_array
from resight.errors import ArrayError
from resight.types import KnnGraph

ALONE = -1


def components(pairs: Any, count: int) -> Int64:
    """The component (count,) int64 of every row, numbered from 0 by its first row; a row in no pair is one of its own.

    `pairs` (M, 2) integers. Raises `ArrayError` when a pair names a row outside 0 to count - 1.
    """
    joined = as_array("pairs", pairs, np.int64, (None, 2))
    if joined.size and (joined.min() < 0 or joined.max() >= count):
        raise ArrayError(f"the pairs name rows {joined.min()} to {joined.max()}, but rows go from 0 to {count - 1}")
    links = coo_array((np.ones(len(joined)), (joined[:, 0], joined[:, 1])), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)


def groups_of_pairs(pairs: Any, count: int) -> Int64:
    """Groups (count,) int64 of the rows that `pairs` (M, 2), such as verified ones, join; -1 for a row that none joins
    with another. Groups are numbered from 0 by their first row. Raises as `components` does.
    """
    labels = components(pairs, count)
    shared = np.bincount(labels, minlength=1)[labels] > 1
    groups = np.full(count, ALONE, np.int64)
    groups[shared] = np.unique(labels[shared], return_inverse=True)[1]
    return groups


def members(groups: Int64) -> list[Int64]:
    """The rows of every group, ascending, groups in order of their number; rows of group -1 are left out."""
    order = np.argsort(groups, kind="stable")
    order = order[groups[order] >= 0]
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else []


def mutual_groups(graph: KnnGraph) -> Int64:
    """Groups (N,) without labels: photos that are among each other's neighbours in `graph` are taken for one thing.

    Use a graph of few neighbours, 1 or 2: groups join through any shared photo. -1 where a photo has no such neighbour.
    """
    source = np.repeat(np.arange(len(graph)), graph.k)
    target = graph.ids.ravel().astype(np.int64)
    there = target >= 0
    links = csr_array((np.ones(there.sum(), np.int8), (source[there], target[there])), shape=(len(graph),) * 2)
    return groups_of_pairs(np.stack((links * links.T).nonzero(), axis=1), len(graph))
