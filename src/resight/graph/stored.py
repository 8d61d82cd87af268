"""A kNN graph in a file: safetensors, written whole or not at all, mapped and checked when read.

Beside its lists lie those with reverse edges, which a traversal follows: it reads the lists of the photos it takes,
whatever the size of the collection.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from resight.errors import ArrayError
from resight.graph.adjacency import Adjacency
from resight.graph.knn_graph import check_graph
from resight.store.tensor_file import map_tensors, write_tensors
from resight.types import Int64, KnnGraph, as_array

FORMAT = "resight graph 1"


@dataclass(frozen=True, eq=False)
class StoredGraph:
    """A `graph` whose node i is row `rows`[i] of a collection, (N,) int64 ascending.

    `weights`: what they are, say "similarity" or "inliers". `made_from`: a fingerprint of what the graph was built
    from, so that one of other descriptors is not taken for it. `edges`: its `adjacency`, in both directions, None where
    it was not kept. Raises `ArrayError` when the parts do not fit.
    """

    graph: KnnGraph
    rows: Int64
    weights: str
    made_from: str
    edges: Adjacency | None = None

    def __post_init__(self) -> None:
        check_graph(self.graph)
        rows = as_array("StoredGraph.rows", self.rows, np.int64, (len(self.graph),))
        if (np.diff(rows) <= 0).any() or (rows[:1] < 0).any():
            raise ArrayError("StoredGraph.rows must rise, and start at 0 or more")
        if self.edges is not None and len(self.edges) != len(self.graph):
            raise ArrayError(f"StoredGraph.edges are of {len(self.edges)} nodes, the graph has {len(self.graph)}")
        object.__setattr__(self, "rows", rows)


def save_graph(path: str | os.PathLike[str], stored: StoredGraph) -> None:
    """Write a graph, 8 bytes an edge, and those of `edges`. Raises `CollectionError` when that cannot be done."""
    tensors = {"ids": stored.graph.ids, "weights": stored.graph.weights, "rows": stored.rows}
    if stored.edges is not None:
        parts = {"edge_starts": stored.edges.starts, "edge_ids": stored.edges.ids, "edge_weights": stored.edges.weights}
        tensors |= parts
    write_tensors(os.fspath(path), FORMAT, tensors, {"weights": stored.weights, "made_from": stored.made_from})


def load_graph(path: str | os.PathLike[str]) -> StoredGraph:
    """Map what `save_graph` wrote. Raises `CollectionError` when it is missing, damaged or something else."""
    return map_tensors(os.fspath(path), FORMAT, _build)


def _build(tensors: dict[str, Any], metadata: dict[str, str]) -> StoredGraph:
    graph = KnnGraph(tensors["ids"], tensors["weights"])
    edges = None
    if "edge_ids" in tensors:
        edges = Adjacency(tensors["edge_starts"], tensors["edge_ids"], tensors["edge_weights"])
    return StoredGraph(graph, tensors["rows"], metadata["weights"], metadata["made_from"], edges)
