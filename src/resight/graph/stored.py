"""A kNN graph in a file: safetensors, written whole or not at all, checked when read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from resight.errors import ArrayError
from resight.graph.knn_graph import check_graph
from resight.store.tensor_file import read_tensors, write_tensors
from resight.types import Int64, KnnGraph, as_array

FORMAT = "resight graph 1"


@dataclass(frozen=True, eq=False)
class StoredGraph:
    """A `graph` whose node i is row `rows`[i] of a collection, (N,) int64 ascending.

    `weights`: what they are, say "similarity" or "inliers". `made_from`: a fingerprint of what the graph was built
    from, so that one of other descriptors is not taken for it. Raises `ArrayError` when the parts do not fit.
    """

    graph: KnnGraph
    rows: Int64
    weights: str
    made_from: str

    def __post_init__(self) -> None:
        check_graph(self.graph)
        rows = as_array("StoredGraph.rows", self.rows, np.int64, (len(self.graph),))
        if (np.diff(rows) <= 0).any() or (rows[:1] < 0).any():
            raise ArrayError("StoredGraph.rows must rise, and start at 0 or more")
        object.__setattr__(self, "rows", rows)


def save_graph(path: str | os.PathLike[str], stored: StoredGraph) -> None:
    """Write a graph, 8 bytes an edge. Raises `CollectionError` when that cannot be done."""
    tensors = {"ids": stored.graph.ids, "weights": stored.graph.weights, "rows": stored.rows}
    write_tensors(os.fspath(path), FORMAT, tensors, {"weights": stored.weights, "made_from": stored.made_from})


def load_graph(path: str | os.PathLike[str]) -> StoredGraph:
    """Read what `save_graph` wrote. Raises `CollectionError` when it is missing, damaged or something else."""
    return read_tensors(os.fspath(path), FORMAT, _build)


def _build(tensors: dict[str, Any], metadata: dict[str, str]) -> StoredGraph:
    graph = KnnGraph(tensors["ids"], tensors["weights"])
    return StoredGraph(graph, tensors["rows"], metadata["weights"], metadata["made_from"])
