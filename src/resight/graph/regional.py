"""Regional diffusion: nodes are image regions, queries are sets of regions, and an image is scored by its regions.

Papers: Iscen, Tolias, Avrithis, Furon, Chum, "Efficient diffusion on region manifolds", CVPR 2017; for the pooling,
Murray, Jegou, Perronnin, Zisserman, "Interferences in match kernels", TPAMI 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from resight.arrays import Float64, finite_rows
from resight.errors import ArrayError, UsageError
from resight.types import Float32, Int64, KnnGraph, as_array


def regional_seeds(
    region_graph: KnnGraph, query_of_region: Any, nodes: int, kept: int, gamma: float = 3.0
) -> scipy.sparse.csr_array:
    """y of queries that are sets of regions, (Q, nodes) sparse float64, for `resight.graph.diffusion.diffuse`.

    `region_graph` (R, k): nearest database regions of every query region. `query_of_region` (R,): 0 to Q - 1. The
    similarities of a query's regions to a database region are summed where positive; the `kept` largest sums stay, of
    equal ones the lower row, and are raised to the power of `gamma`.
    Raises `UsageError` for kept < 1 or gamma <= 0, `ArrayError` for ids beyond `nodes` and negative queries.
    """
    owners = as_array("query_of_region", query_of_region, np.int64, (len(region_graph),))
    if kept < 1 or not gamma > 0:
        raise UsageError(f"kept={kept} must be at least 1 and gamma={gamma} above 0")
    if owners.size and owners.min() < 0:
        raise ArrayError(f"query_of_region holds {owners.min()}: queries are numbered from 0")
    rows, slots = np.nonzero(region_graph.ids >= 0)
    ids = region_graph.ids[rows, slots]
    if ids.size and ids.max() >= nodes:
        raise ArrayError(f"a region has neighbour {ids.max()}, but the graph has {nodes} nodes")
    shape = (int(owners.max(initial=-1)) + 1, nodes)
    values = np.maximum(region_graph.weights[rows, slots].astype(np.float64), 0.0)
    sums = scipy.sparse.csr_array((values, (owners[rows], ids)), shape=shape)
    sums.sum_duplicates()
    query: Int64 = np.repeat(np.arange(shape[0]), np.diff(sums.indptr))
    order = np.lexsort((sums.indices, -sums.data, query))
    rank = np.arange(len(order)) - sums.indptr[query[order]]
    stays = order[(rank < kept) & (sums.data[order] > 0)]
    return scipy.sparse.csr_array((sums.data[stays] ** gamma, (query[stays], sums.indices[stays])), shape=shape)


def pool_regions(
    scores: Float64, image_of_region: Any, vectors: Float32, regularisation: float = 1.0
) -> NDArray[np.float64]:
    """Scores of images from the `scores` (Q, R) of their regions, (Q, images), by generalised max pooling.

    An image with regions V (n, D), rows of `vectors` (R, D), weighs them with (V V^T + regularisation I)^-1 1, so that
    regions that repeat each other share one vote. `image_of_region` (R,): 0 to images - 1; an image without regions
    scores 0. Raises `UsageError` unless `regularisation` > 0, `ArrayError` for other shapes.
    """
    if not regularisation > 0:
        raise UsageError(f"regularisation={regularisation} must be above 0")
    vectors = finite_rows("vectors", vectors)
    owners = as_array("image_of_region", image_of_region, np.int64, (len(vectors),))
    if scores.ndim != 2 or scores.shape[1] != len(vectors):
        raise ArrayError(f"scores have shape {scores.shape}, expected (queries, {len(vectors)})")
    if owners.size and owners.min() < 0:
        raise ArrayError(f"image_of_region holds {owners.min()}: images are numbered from 0")
    order = np.argsort(owners, kind="stable")
    bounds = np.flatnonzero(np.diff(owners[order])) + 1
    weights = np.empty(len(vectors))
    for regions in np.split(order, bounds):
        own = vectors[regions].astype(np.float64)
        gram = own @ own.T + regularisation * np.eye(len(own))
        weights[regions] = np.linalg.solve(gram, np.ones(len(own)))
    shape = (len(vectors), int(owners.max(initial=-1)) + 1)
    pool = scipy.sparse.csr_array((weights, (np.arange(len(vectors)), owners)), shape=shape)
    return np.asarray(scores @ pool)
