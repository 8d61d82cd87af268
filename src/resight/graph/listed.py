"""What a kNN graph lists, and how many neighbours a graph should have."""

from __future__ import annotations

import numpy as np

from resight.types import Float32, Int64, KnnGraph

MOST_NEIGHBOURS = 50
STRANGERS = 0.05  # unrelated photos that may stand out from the rest of a row
SAMPLED = 1000


def standing_out(vectors: Float32) -> int:
    """How many photos stand out from the rest of a photo's similarities, on average: 1 to 50; no labels are needed.

    A photo stands out when its similarity is so many standard deviations above the mean of its row (N,) that of N
    normal ones 0.05 would be. Looks at 1000 rows. Memory: 4 N bytes for each of them.
    """
    from scipy.stats import norm

    rows = np.sort(np.random.default_rng(0).permutation(len(vectors))[:SAMPLED])
    products = vectors[rows] @ vectors.T
    own = np.arange(len(rows))
    products[own, rows] = np.nan
    mean, deviation = np.nanmean(products, axis=1, keepdims=True), np.nanstd(products, axis=1, keepdims=True)
    far = mean + norm.isf(STRANGERS / len(vectors)) * deviation
    products[own, rows] = -np.inf
    count = round(float((products > far).sum(axis=1).mean()))
    return int(np.clip(count, 1, min(MOST_NEIGHBOURS, len(vectors) - 1)))


def listed_pairs(graph: KnnGraph) -> Int64:
    """Pairs (P, 2) int64 of rows, i < j ascending, where either lists the other."""
    rows, slots = np.nonzero(graph.ids >= 0)
    columns = graph.ids[rows, slots].astype(np.int64)
    keys = np.unique(np.minimum(rows, columns) * len(graph) + np.maximum(rows, columns))
    return np.stack([keys // len(graph), keys % len(graph)], axis=1)
