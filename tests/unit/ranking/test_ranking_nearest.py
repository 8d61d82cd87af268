"""DELG's re-ranking: inliers among nearest neighbours within a distance."""

from __future__ import annotations

import numpy as np
import pytest

from resight.errors import UsageError
from resight.ranking.nearest_rerank import NearestRerank
from resight.types import LocalFeatures, Queries, Ranking


def features(xy, descriptors):
    zeros = np.zeros(len(xy), np.float32)
    return LocalFeatures(xy.astype(np.float32), zeros + 16, zeros, zeros, descriptors.astype(np.float32))


@pytest.fixture(scope="module")
def world():
    """A query, and photos of which the first share 0, 30, 12 and 3 of its features, moved by an affine transform."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 600, (60, 2))
    descriptors = rng.normal(size=(60, 32))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    photos = []
    for shared in (0, 30, 12, 3):
        other = rng.normal(size=(60, 32))
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        other[:shared] = descriptors[:shared]
        places = rng.uniform(0, 600, (60, 2))
        places[:shared] = xy[:shared] @ [[0.9, 0.1], [-0.1, 1.1]] + [20, -5]
        photos.append(features(places, other))
    empty = LocalFeatures(np.empty((0, 2)), *np.empty((3, 0)), np.empty((0, 32)))
    return features(xy, descriptors), [*photos, empty]


def rerank(world, top=5, **options):
    query, photos = world
    stage = NearestRerank(lambda rows: [photos[row] for row in rows], top, **options)
    before = Ranking(np.array([[0, 4, 3, 2, 1, -1]]), np.array([[9.0, 8, 7, 6, -5, -np.inf]]))
    return stage, Queries(local=(query,)), stage(Queries(local=(query,)), before)


def test_inliers_order_and_what_came_first_breaks_ties(world):
    _, _, found = rerank(world, distance=0.5)
    assert found.ids.tolist() == [[1, 2, 0, 4, 3, -1]]
    assert np.floor(found.scores[0, :5] - 1).tolist() == [30, 12, 0, 0, 0]


def test_results_behind_the_first_stay_behind(world):
    _, _, found = rerank(world, top=3, distance=0.5)
    assert found.ids.tolist() == [[0, 4, 3, 2, 1, -1]]
    assert (found.scores[0, :3] > 1).all()
    assert (found.scores[0, 3:5] < 1).all()


def test_the_distance_bounds_matches(world):
    stage, queries, _ = rerank(world, distance=0.5)
    (found,) = stage.verify(queries.local[0], np.array([1]))
    assert len(found.correspondences) == found.inliers == 30
    np.testing.assert_allclose(found.transform[:2, 2], [20, -5], atol=0.1)
    loose, *_ = rerank(world, distance=2.0)
    (every,) = loose.verify(queries.local[0], np.array([1]))
    assert len(every.correspondences) == 60, "one neighbour for each feature, whatever the second is"
    assert "30" in stage.explain(queries, 0, 1)[0].summary


def test_settings_out_of_range():
    for options in ({"top": 0}, {"distance": 0.0}, {"tolerance": -1.0}):
        with pytest.raises(UsageError, match=next(iter(options))):
            NearestRerank(list, **options)
