"""Stages over the kNN graph: what must hold for any collection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.graph.adjacency import adjacency
from resight.graph.diffusion import affinity, normalise
from resight.graph.knn_graph import build_knn_graph
from resight.ranking.diffusion_stages import Diffusion, TruncatedDiffusion
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.neighbourhood_stages import KReciprocal, SuperGlobal
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.vector_database import VectorDatabase
from resight.types import Queries

COUNT, DIM = 30, 6
SEEDS = st.integers(0, 2**31)
STAGES = {
    "expansion": lambda db, _: QueryExpansion(db, 3),
    "traversal": lambda db, graph: ExploreExploit(db, adjacency(graph), 0.6, k=4, limit=12),
    "diffusion": lambda db, graph: Diffusion(db, normalise(affinity(graph)), seeds=3, limit=12, iterations=200),
    "truncated": lambda db, graph: TruncatedDiffusion(db, affinity(graph), top=12, seeds=3, iterations=200),
    "reciprocal": lambda db, _: KReciprocal(db, 12, 5, 3),
    "super-global": lambda db, _: SuperGlobal(db, 12, 4),
}


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def ranked(name, vectors, queries):
    database = VectorDatabase.over(vectors)
    before = GlobalSearch(database.index)(queries)
    return before, STAGES[name](database, build_knn_graph(vectors, 5))(queries, before)


@pytest.mark.parametrize("name", STAGES)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_renaming_the_photos_renames_the_results(name, seed):
    rng = np.random.default_rng(seed)
    vectors, queries = unit(rng.normal(size=(COUNT, DIM))), Queries(vectors=unit(rng.normal(size=(2, DIM))))
    order = rng.permutation(COUNT)
    before, found = ranked(name, vectors, queries)
    _, moved = ranked(name, vectors[order], queries)
    head = slice(0, 8)  # diffusion leaves tiny scores behind, whose order rounding may change
    np.testing.assert_allclose(moved.scores[:, head], found.scores[:, head], rtol=1e-3, atol=1e-5)
    clear = np.diff(found.scores[:, head], axis=1, prepend=np.inf) < -1e-4
    clear &= np.diff(found.scores[:, head], axis=1, append=-np.inf) < -1e-4
    np.testing.assert_array_equal(order[moved.ids][:, head][clear], found.ids[:, head][clear])
    np.testing.assert_array_equal(np.sort(found.ids, axis=1), np.sort(before.ids, axis=1), err_msg="nothing is lost")


@pytest.mark.parametrize("name", STAGES)
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_queries_do_not_change_each_other(name, seed):
    rng = np.random.default_rng(seed)
    vectors, queries = unit(rng.normal(size=(COUNT, DIM))), Queries(vectors=unit(rng.normal(size=(3, DIM))))
    _, together = ranked(name, vectors, queries)
    for query in range(3):
        _, alone = ranked(name, vectors, queries.only(query))
        np.testing.assert_allclose(alone.scores[0], together.scores[query], rtol=1e-3, atol=1e-5)
