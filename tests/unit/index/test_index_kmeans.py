"""k-means and nearest words: the same bits whatever the threads and the order in which faiss sums."""

import os
import subprocess
import sys

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from resight.errors import ArrayError
from resight.index.codebook import Codebook
from resight.index.kmeans import kmeans, nearest

RNG = np.random.default_rng(11)
POINTS = RNG.standard_normal((3000, 48)).astype(np.float32)

TRAIN = """
import numpy as np
from resight.index.codebook import Codebook
points = np.random.default_rng(5).standard_normal((4000, 128)).astype(np.float32)
print(Codebook.fit(points, 64, seed=2).fingerprint)
"""


@pytest.fixture
def faiss_threads():
    before = faiss.omp_get_max_threads()
    yield faiss.omp_set_num_threads
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("spherical", [False, True])
def test_threads_do_not_change_a_bit(faiss_threads, spherical):
    found = []
    for threads in (1, 2, 3):
        faiss_threads(threads)
        with threadpool_limits(threads):
            found.append(kmeans(POINTS, 60, seed=1, spherical=spherical))
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_processes_with_other_threads_and_processors_learn_the_same_codebook():
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    imitated = [
        {"OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Haswell", "FAISS_OPT_LEVEL": "generic"},
    ]
    prints = {
        subprocess.run(
            [sys.executable, "-c", TRAIN], env={**plain, **more}, capture_output=True, text=True, check=True
        ).stdout
        for more in imitated
    }
    assert len(prints) == 1
    assert len(prints.pop().strip()) == 64


def test_centroids_are_the_means_of_their_points():
    clusters = np.repeat(np.eye(6, 48, dtype=np.float32) * 20, 100, axis=0)
    points = clusters + 0.1 * RNG.standard_normal(clusters.shape).astype(np.float32)
    start = points[::100].copy()
    assigned = nearest(points, start, 1)[:, 0]
    np.testing.assert_array_equal(assigned, np.repeat(np.arange(6), 100))
    learnt = kmeans(points, 6, seed=0, iterations=20)
    owners = nearest(points, learnt, 1)[:, 0]
    for word in np.unique(owners):
        np.testing.assert_allclose(learnt[word], points[owners == word].mean(axis=0), atol=1e-5)


def test_more_iterations_lower_the_error():
    errors = []
    for iterations in (1, 3, 10):
        learnt = kmeans(POINTS, 40, seed=0, iterations=iterations)
        errors.append(float(((POINTS - learnt[nearest(POINTS, learnt, 1)[:, 0]]) ** 2).sum()))
    assert errors[0] > errors[1] > errors[2]


def test_spherical_centroids_have_length_one():
    learnt = kmeans(POINTS, 20, seed=0, spherical=True)
    np.testing.assert_allclose(np.linalg.norm(learnt, axis=1), 1, atol=1e-6)


def test_points_that_repeat_leave_no_centroid_undefined():
    points = np.repeat(POINTS[:3], 50, axis=0)
    learnt = kmeans(points, 10, seed=0)
    assert np.isfinite(learnt).all()
    np.testing.assert_allclose(np.linalg.norm(learnt[:, None] - points[None, ::50], axis=2).min(axis=1), 0, atol=1e-5)


def test_nearest_is_exact_and_equal_distances_go_to_the_lowest_number():
    centroids = POINTS[:50]
    distance = ((POINTS[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest(POINTS, centroids, 5), np.argsort(distance, axis=1, kind="stable")[:, :5])
    twice = np.concatenate([centroids[:4], centroids[:4]])
    np.testing.assert_array_equal(nearest(POINTS[:9], twice, 1)[:, 0] // 4, np.zeros(9))


def test_neighbours_that_single_precision_cannot_tell_apart_are_told_apart():
    points = np.full((30, 48), 1000, np.float32)  # squared lengths of 5e7, known to 4 in single precision
    centroids = np.concatenate([points[:1] - np.float32(2**-12), points[:1]])
    assert nearest(points, centroids, 1).tolist() == [[1]] * 30


def test_numbers_beyond_single_precision_are_refused():
    with pytest.raises(ArrayError, match="too large"):
        Codebook(np.full((3, 4), 1e30)).assign(np.full((30, 4), -1e30))
