"""Recipes for feature files: functions of queries and a `Database`, whose keyword arguments are their settings.

Those that re-rank put what they do not reach behind, in the order of the search. All but `search` hold the descriptors
of the whole database in memory, distractors too; those of the graph also hold the graph, 8 k bytes per photo.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from resight.errors import UsageError
from resight.evaluation.feature_chains import landmark2019, semi_supervised, verified_expansion
from resight.evaluation.feature_database import Database
from resight.evaluation.feature_files import read_features
from resight.evaluation.list_files import read_lists
from resight.evaluation.local_files import ASMK
from resight.evaluation.streaming import rank_blocks
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.propagation_matrix import listed_graph
from resight.index.asmk import Asmk
from resight.index.codebook import Codebook
from resight.matching.similarity import load_similarity
from resight.ranking.expansion import database_augmentation
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.search import global_vectors, stack
from resight.ranking.similarity import deep_similarity
from resight.ranking.vector_database import VectorDatabase
from resight.recipes.catalogue import RECIPES, pipeline
from resight.recipes.resources import ArrayResources
from resight.types import Float32, Queries, Ranking


def search(queries: Queries, database: Database, *, k: int | None = None) -> Ranking:
    """The `k` best rows by inner product (all by default), a block of the database at a time."""
    return rank_blocks(_vectors(queries), database.blocks(), k)


def average_expansion(queries: Queries, database: Database, *, n: int = 10) -> Ranking:
    """Average query expansion with the `n` nearest, then search (Chum et al., ICCV 2007)."""
    return QueryExpansion(VectorDatabase.over(database.all()), n, 0.0)(queries)


def augmentation(
    queries: Queries, database: Database, *, n: int = 10, alpha: float = 3.0, query_n: int = 10
) -> Ranking:
    """Alpha database augmentation with `n` photos, and query expansion with `query_n` of the result."""
    return QueryExpansion(VectorDatabase.over(database_augmentation(database.all(), n, alpha)), query_n, alpha)(queries)


def learned(queries: Queries, database: Database, *, weights: str = "", top: int | None = None) -> Ranking:
    """The first `top` results (all by default) in the order of a learned similarity, read from the file `weights`."""
    if not weights:
        raise UsageError("give the file of the learned similarity: --weights FILE")
    similarity = load_similarity(weights)
    nodes = VectorDatabase.over(database.all())
    if similarity.dim != nodes.vectors.shape[1]:
        raise UsageError(
            f"{weights} compares {similarity.dim} dimensions, the descriptors have {nodes.vectors.shape[1]}"
        )
    return deep_similarity(nodes.index, similarity, nodes.rows, nodes.vectors, top=top or max(len(nodes), 1))(queries)


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
        graph = listed_graph(
            read_lists(index_lists, len(nodes), len(nodes)), nodes.vectors, nodes.vectors, k, same=True
        )
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
        near = listed_graph(read_lists(query_lists, len(points), len(nodes)), points, nodes.vectors, query_k)
    else:
        near = neighbours(points, nodes.vectors, query_k)
    refined = VectorDatabase.over(model.embed(nodes.vectors, graph))
    return refined.index.search(model.extend(points, near), max(len(nodes), 1))


def asmk(
    queries: Queries,
    database: Database,
    *,
    words: int | None = None,
    codebook: str = "",
    binary: bool = True,
    query_multiple: int = 5,
) -> Ranking:
    """Aggregated selective match kernel of local descriptors (Tolias et al., IJCV 2016; as in HOW, ECCV 2020).

    `codebook`: a file of descriptors of other images that the visual words are learned from; the database's own where
    there is none. `words`: their number, None to follow that of the descriptors. `binary`, `query_multiple`: of `Asmk`.
    Holds all descriptors in memory.
    """
    if queries.local is None or database.images is None:
        raise UsageError(f"recipe {ASMK} takes local descriptors: a file with vecs and imids, the image of each")
    learned_from = read_features(codebook).vectors if codebook else database.vectors
    index = Asmk(Codebook.fit(learned_from, words), binary=binary, query_multiple=query_multiple)
    index.add(database.images, database.vectors)
    rows, descriptors = stack(queries.local, index.codebook.dim)
    return index.search(rows, descriptors, queries=len(queries.local))


def _over(name: str) -> Callable[..., Ranking]:
    """A recipe of collections, its graphs made from the descriptors as it asks for them."""

    @wraps(RECIPES[name].build)
    def rank(queries: Queries, database: Database, **options: Any) -> Ranking:
        resources = ArrayResources(VectorDatabase.over(database.all()))
        return pipeline(name, resources, options)(queries)

    return rank


FEATURE_RECIPES: dict[str, Callable[..., Ranking]] = {
    "search": search,
    "average-expansion": average_expansion,
    "alpha-augmentation": augmentation,
    "oasis": learned,
    "deep-similarity": learned,
    "separation": separation,
    "verified-expansion": verified_expansion,
    "semi-supervised": semi_supervised,
    "landmark2019": landmark2019,
    ASMK: asmk,
    **{name: _over(name) for name, recipe in RECIPES.items() if recipe.descriptors and not recipe.others},
}


def _vectors(queries: Queries) -> Float32:
    if queries.vectors is None:
        raise UsageError("these queries carry no descriptors: give a file of them")
    return queries.vectors
