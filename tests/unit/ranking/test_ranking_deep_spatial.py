"""Re-ranking by regions of made activation maps, and the diffusion that they start."""

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.graph.diffusion import diffuse
from resight.matching.deep_spatial import regions_of_maps
from resight.ranking.deep_spatial import (
    DeepQueries,
    DeepSpatialRerank,
    deep_spatial,
    deep_spatial_diffusion,
    verified_seeds,
)
from resight.ranking.search import GlobalSearch
from resight.ranking.vector_database import VectorDatabase
from resight.types import Queries, Ranking

SIZE = (640, 480)


def blobs(points):
    y, x = np.mgrid[:30, :40] + 0.5
    points = points[:, :, None, None]
    return (50 * np.exp(-((x - points[:, 0]) ** 2 + (y - points[:, 1]) ** 2) / 4)).astype(np.float32)


@pytest.fixture(scope="module")
def world():
    """Eight photos: 0-2 show the query's thing a little moved, 3-7 other things; vectors put 3 and 4 first."""
    rng = np.random.default_rng(0)
    points = rng.uniform((5, 4), (33, 26), (40, 2))
    maps = [blobs(points + np.array([i, 0])) for i in (0.5, 1, 2)]
    maps += [blobs(rng.uniform((5, 4), (33, 26), (40, 2))) for _ in range(5)]
    regions = [regions_of_maps([m], SIZE, query=False) for m in maps]
    cosines = np.array([0.80, 0.7, 0.6, 0.95, 0.9, 0.5, 0.4, 0.3])
    side = np.random.default_rng(1).normal(size=(8, 15))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    vectors = np.c_[cosines, np.sqrt(1 - cosines**2)[:, None] * side].astype(np.float32)
    query = DeepQueries(
        vectors=np.eye(1, 16, dtype=np.float32), regions=(regions_of_maps([blobs(points)], SIZE, query=True),)
    )
    return query, VectorDatabase.over(vectors), lambda rows: [regions[row] for row in rows]


def test_verified_photos_come_first(world):
    query, database, source = world
    before = GlobalSearch(database.index)(query)
    assert before.ids[0, :2].tolist() == [3, 4]
    after = deep_spatial(database.index, source, top=5)(query)
    assert set(after.ids[0, :3]) == {0, 1, 2}
    assert sorted(after.ids[0]) == list(range(8))
    assert after.ids[0, 5:].tolist() == before.ids[0, 5:].tolist()


def test_only_the_first_are_verified(world):
    query, database, source = world
    asked = []

    def watched(rows):
        asked.extend(map(int, rows))
        return source(rows)

    after = deep_spatial(database.index, watched, top=2)(query)
    assert sorted(asked) == [3, 4]
    assert set(after.ids[0, :2]) == {3, 4}
    assert after.ids[0, 2:].tolist() == [0, 1, 2, 5, 6, 7]


def test_no_results_stay_none(world):
    query, _, source = world
    empty = DeepSpatialRerank(source)(query, Ranking(np.empty((1, 0), np.int64), np.empty((1, 0))))
    assert empty.ids.shape == (1, 0)
    padded = DeepSpatialRerank(source)(query, Ranking(np.array([[2, -1]]), np.array([[0.5, -np.inf]])))
    assert padded.ids.tolist() == [[2, -1]]


def test_rerank_explains_itself(world):
    query, _, source = world
    stage = DeepSpatialRerank(source)
    proof = stage.explain(query, 0, 1)[0]
    assert proof.stage == "DeepSpatialRerank"
    assert proof.data["verification"].inliers >= 35
    assert str(proof.data["verification"].inliers) in proof.summary
    assert "no " in stage.explain(query, 0, 6)[0].summary


def test_diffusion_starts_from_what_is_verified(world):
    query, database, source = world
    pipeline = deep_spatial_diffusion(database, source, k=3, top=8, seeds=3)
    found = pipeline(query)
    assert sorted(found.ids[0]) == list(range(8))
    evidence = pipeline.stages[1].explain(query, 0, int(found.ids[0, 0]), GlobalSearch(database.index)(query))[0]
    assert set(evidence.data["seeds"]) == {0, 1, 2}
    assert "3 verified photos" in evidence.summary
    y = np.zeros((1, 8))
    y[0, evidence.data["seeds"]] = evidence.data["weights"]
    flow = diffuse(pipeline.stages[1].normalised, y)
    assert found.ids[0].tolist() == np.argsort(-flow[0], kind="stable").tolist()
    one = deep_spatial_diffusion(database, source, k=3, top=8, seeds=3, faithful=True).stages[1]
    assert len(one.explain(query, 0, 0, GlobalSearch(database.index)(query))[0].data["seeds"]) == 2


def test_diffusion_without_evidence_changes_nothing(world):
    query, database, source = world
    blank = DeepQueries(vectors=query.vectors, regions=(regions_of_maps([], SIZE, query=True),))
    pipeline = deep_spatial_diffusion(database, source, k=3)
    assert pipeline(blank).ids.tolist() == GlobalSearch(database.index)(query).ids.tolist()
    before = GlobalSearch(database.index)(query)
    assert "nothing flowed" in pipeline.stages[1].explain(blank, 0, 0, before)[0].summary


def test_a_query_from_the_database_is_no_seed_of_its_own(world):
    query, database, source = world
    own = DeepQueries(vectors=database.vectors[:1], rows=np.array([0]), regions=query.regions)
    stage = deep_spatial_diffusion(database, source, k=3, seeds=3).stages[1]
    assert 0 not in stage.explain(own, 0, 1, GlobalSearch(database.index)(own))[0].data["seeds"]


def test_seeds_by_hand():
    ids = np.array([[5, 6, 7, 8], [1, 2, -1, -1], [3, 4, -1, -1]])
    similarity = np.array(
        [[0.9, 0.8, 0.5, 0.7], [-0.5, -0.1, -np.inf, -np.inf], [0.9, 0.9, -np.inf, -np.inf]], np.float32
    )
    inliers = np.array([[10, 20, 20, 5], [2, 4, 0, 0], [0, 0, 0, 0]])
    y = verified_seeds(ids, similarity, inliers, 10, seeds=3).toarray()
    np.testing.assert_allclose(y[0], [0, 0, 0, 0, 0, 0.45, 0.8, 0.5, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(y[1], [0, 0.5, 1, 0, 0, 0, 0, 0, 0, 0])  # similarities are all negative: shares alone
    assert not y[2].any()
    faithful = verified_seeds(ids, similarity, inliers, 10, seeds=3, faithful=True).toarray()
    np.testing.assert_allclose(faithful[0], [0, 0, 0, 0, 0, 0, 0.8, 0.5, 0, 0], rtol=1e-6)


def test_one_query_of_many_keeps_its_regions(world):
    query, _, _ = world
    both = DeepQueries(
        vectors=np.eye(2, 16, dtype=np.float32), regions=(query.regions[0], regions_of_maps([], SIZE, query=True))
    )
    assert both.only(1).regions == both.regions[1:]
    np.testing.assert_array_equal(both.only(1).vectors, both.vectors[1:])


def test_errors_say_what_is_wrong(world):
    query, database, source = world
    ranking = GlobalSearch(database.index)(query)
    with pytest.raises(UsageError, match="carry no regions"):
        DeepSpatialRerank(source)(Queries(vectors=query.vectors), ranking)
    with pytest.raises(UsageError, match="top=0"):
        DeepSpatialRerank(source, top=0)
    with pytest.raises(UsageError, match="at least one"):
        deep_spatial_diffusion(database, source, k=3, seeds=1, faithful=True)
    with pytest.raises(ArrayError, match="regions of 0"):
        DeepQueries(vectors=query.vectors)
    with pytest.raises(ArrayError, match="must be equal"):
        verified_seeds(ranking.ids, ranking.scores, np.ones((1, 2)), 8)
    with pytest.raises(UsageError, match="DeepSpatialRerank"):
        DeepSpatialRerank(source)(query)
