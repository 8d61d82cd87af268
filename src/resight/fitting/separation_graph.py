"""Which photos a refinement joins: as many as stand out, or those that geometry proves to show one thing."""

from __future__ import annotations

import numpy as np

from resight.artifacts.neighbours import neighbourhood
from resight.collection.collection import Collection
from resight.errors import UsageError
from resight.fitting.improve import build_graph
from resight.progress import Progress, silent
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


def verified_graph(collection: Collection, *, progress: Progress = silent) -> KnnGraph:
    """The graph of photos of `collection` that geometry proves to show one thing, built and stored where it is missing.

    Nodes are the photos with descriptors, in row order; weights are inlier counts. A run that is stopped goes on.
    Raises `UsageError` for a collection without descriptors, or without local features to verify.
    """
    if collection.settings.local is None:
        raise UsageError(f"{collection.path} keeps no local features to verify: use a recipe such as hybrid")
    collection.vectors()  # says what is missing
    vectors = collection.state.vectors
    assert vectors is not None
    known = neighbourhood(collection.path, vectors, None).verified
    if known is not None:
        return known
    build_graph(collection, verified=True, progress=progress)
    built = neighbourhood(collection.path, vectors, None).verified
    assert built is not None
    return built


def listed_pairs(graph: KnnGraph) -> Int64:
    """Pairs (P, 2) int64 of rows, i < j ascending, where either lists the other."""
    rows, slots = np.nonzero(graph.ids >= 0)
    columns = graph.ids[rows, slots].astype(np.int64)
    keys = np.unique(np.minimum(rows, columns) * len(graph) + np.maximum(rows, columns))
    return np.stack([keys // len(graph), keys % len(graph)], axis=1)
