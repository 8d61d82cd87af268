"""Recipes for feature files that train a model on the database first, and all the others."""

from __future__ import annotations

from collections.abc import Callable

from resight.evaluation.feature_recipes import FEATURE_RECIPES, Database
from resight.graph.knn_graph import build_knn_graph
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
) -> Ranking:
    """Guided similarity separation, trained on the database without labels for all `epochs` (Liu et al., NeurIPS 2019).

    The published k = 5 of the database counts the photo itself. Transductive.
    """
    from resight.training.separation import fit_separation

    nodes = VectorDatabase.over(database.all())
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
    near = VectorDatabase.over(nodes.vectors).nearest(Queries(vectors=global_vectors(queries)), query_k)
    refined = VectorDatabase.over(model.embed(nodes.vectors, graph))
    return refined.index.search(model.extend(global_vectors(queries), near), max(len(nodes), 1))


TRAINED_RECIPES: dict[str, Callable[..., Ranking]] = {**FEATURE_RECIPES, "similarity-separation": separation}
