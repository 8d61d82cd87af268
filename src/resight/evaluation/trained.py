"""Recipes for feature files that train a model on the database first, and all the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from resight.errors import UsageError
from resight.evaluation.feature_recipes import FEATURE_RECIPES, Database
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.propagation_matrix import listed_graph
from resight.ranking.search import global_vectors
from resight.ranking.vector_database import VectorDatabase
from resight.types import Queries, Ranking


def separation(
    queries: Queries,
    database: Database,
    *,
    k: int = 4,
    query_k: int = 5,
    layers: int = 2,
    residual: float = 0.3,
    beta_percentile: float = 98.0,
    epochs: int = 200,
    seed: int = 0,
    index_lists: str = "",
    query_lists: str = "",
) -> Ranking:
    """Guided similarity separation, trained on the database without labels for all `epochs` (Liu et al., NeurIPS 2019).

    The published k = 5 of the database counts the photo itself. `index_lists`, `query_lists`: npy files of neighbours,
    integers (N, K) and (Q, K), best first, such as geometry proves them; their first `k` and `query_k` are the edges
    instead of the nearest. Transductive.
    """
    from resight.training.separation import fit_separation

    nodes, points = VectorDatabase.over(database.all()), global_vectors(queries)
    if index_lists:
        graph = listed_graph(_lists(index_lists), nodes.vectors, nodes.vectors, k, same=True)
    else:
        graph = build_knn_graph(nodes.vectors, k)
    model = fit_separation(
        nodes.vectors,
        graph,
        layers=layers,
        residual=residual,
        beta_percentile=beta_percentile,
        epochs=epochs,
        seed=seed,
    )
    if query_lists:
        near = listed_graph(_lists(query_lists), points, nodes.vectors, query_k)
    else:
        near = neighbours(points, nodes.vectors, query_k)
    refined = VectorDatabase.over(model.embed(nodes.vectors, graph))
    return refined.index.search(model.extend(points, near), max(len(nodes), 1))


def _lists(path: str) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as an npy file of neighbours: {error}") from error


TRAINED_RECIPES: dict[str, Callable[..., Ranking]] = {**FEATURE_RECIPES, "similarity-separation": separation}
