import numpy as np
import pytest
import torch

from resight.errors import UsageError
from resight.graph.adjacency import adjacency
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.separation import SimilaritySeparation
from resight.ranking.expansion_stages import QueryExpansion
from resight.ranking.pipeline import explain
from resight.ranking.propagation import ExploreExploit
from resight.ranking.search import GlobalSearch
from resight.ranking.separation import Refined, Separation, centred
from resight.ranking.vector_database import VectorDatabase
from resight.types import KnnGraph, Queries, Ranking

torch.set_num_threads(1)


@pytest.fixture
def world():
    """A stage over 60 rows numbered 0, 3, 6, ... of 12 groups, 55 of which were embedded, and queries."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 16)) + 1
    vectors = centres[np.arange(60) % 12] + 0.8 * rng.normal(size=(60, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = 3 * np.arange(60)
    mean = vectors[:55].mean(axis=0)
    moved = centred(vectors, mean)
    model = SimilaritySeparation(16)
    index = model.embed(moved[:55], build_knn_graph(moved[:55], 4))
    later = model.extend(moved[55:], neighbours(moved[55:], moved[:55], 5))
    refined = VectorDatabase.over(np.concatenate([index, later]), rows)
    stage = Separation(model, VectorDatabase.over(moved[:55], rows[:55]), refined, mean, k=5)
    queries = centres[:6] + 0.8 * rng.normal(size=(6, 16))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    return stage, vectors, rows, queries


def test_first_stage(world):
    stage, _, _, queries = world
    moved = centred(queries, stage.mean)
    near = neighbours(moved, stage.database.vectors, 5)
    expected = stage.model.extend(moved, near) @ stage.refined.vectors.T
    found = stage(Queries(vectors=queries))
    np.testing.assert_allclose(found.scores, -np.sort(-expected, axis=1), atol=1e-5)
    np.testing.assert_array_equal(found.ids[:, 0], 3 * expected.argmax(axis=1))
    assert set(found.ids[0].tolist()) == set(range(0, 180, 3))  # later photos are found too


def test_refined_search_finds_more_of_the_group(world):
    stage, vectors, rows, queries = world
    plain = GlobalSearch(VectorDatabase.over(vectors, rows).index)(Queries(vectors=queries))
    found = stage(Queries(vectors=queries))

    def hits(ranking):
        return sum((ranking.ids[q, :5] // 3 % 12 == q).sum() for q in range(6))

    assert hits(found) > hits(plain)


def test_behind_another_stage_the_ranking_chooses_the_neighbours(world):
    stage, _, _, queries = world
    ranking = Ranking(np.array([[9, 30, 0]] * 6), np.array([[3.0, 2, 1]] * 6))
    refined = stage.refine(Queries(vectors=queries), ranking)
    moved = centred(queries, stage.mean)
    weights = moved @ stage.database.vectors[[3, 10, 0]].T
    expected = stage.model.extend(moved, KnnGraph(np.array([[3, 10, 0]] * 6), weights))
    np.testing.assert_allclose(refined.vectors, expected, atol=1e-6)
    limited = Separation(stage.model, stage.database, stage.refined, stage.mean, 5, limit=4)
    found = limited(Queries(vectors=queries), ranking)
    assert {9, 30, 0} <= set(found.ids[0].tolist())  # nothing is lost


def test_a_photo_is_not_its_own_neighbour(world):
    stage, vectors, rows, _ = world
    query = Queries(vectors=vectors[4:5], rows=rows[4:5])
    refined = stage.refine(query).vectors
    moved = centred(vectors[4:5], stage.mean)
    near = neighbours(moved, np.delete(stage.database.vectors, 4, axis=0), 5)
    ids = near.ids + (near.ids >= 4)
    np.testing.assert_allclose(refined, stage.model.extend(moved, KnnGraph(ids, near.weights)), atol=1e-6)


def test_other_stages_over_refined_photos(world):
    stage, _, _, queries = world
    edges = adjacency(build_knn_graph(stage.refined.vectors, 5))
    traversal = Refined(stage, ExploreExploit(stage.refined, edges, 0.8, k=5))
    expansion = Refined(stage, QueryExpansion(stage.refined, 3))
    asked = Queries(vectors=queries)
    for inner in (traversal, expansion):
        found = inner(asked)
        np.testing.assert_array_equal(found.ids, inner.stage(stage.refine(asked)).ids)
        assert explain(inner, asked, 1, int(found.ids[1, 0]), None)
    assert (stage >> traversal)(asked).ids.shape[1] == 60


def test_explanations(world):
    stage, _, _, queries = world
    asked = Queries(vectors=queries)
    found = stage(asked)
    (evidence,) = explain(stage, asked, 2, int(found.ids[2, 0]), None)
    assert evidence.data["refined"] == pytest.approx(float(found.scores[2, 0]), abs=1e-6)
    assert len(evidence.data["neighbours"]) == 5
    assert all(row % 3 == 0 for row in evidence.data["neighbours"])
    assert "added later" in explain(stage, asked, 2, 177, None)[0].summary
    assert "no refined descriptor" in explain(stage, asked, 2, 1, None)[0].summary


def test_centring_keeps_what_equals_the_mean():
    x = np.array([[1, 0], [0, 1]], np.float32)
    np.testing.assert_array_equal(centred(x, x[0])[0], x[0])
    np.testing.assert_allclose(np.linalg.norm(centred(x, np.array([0.5, 0.1], np.float32)), axis=1), 1, rtol=1e-6)


def test_bad_arguments(world):
    stage = world[0]
    with pytest.raises(UsageError, match="k=0"):
        Separation(stage.model, stage.database, stage.refined, stage.mean, 0)
    with pytest.raises(UsageError, match="0 results"):
        Separation(stage.model, stage.database, stage.refined, stage.mean, 5, 0)
    with pytest.raises(UsageError, match="no global descriptors"):
        stage(Queries(rows=[0]))
