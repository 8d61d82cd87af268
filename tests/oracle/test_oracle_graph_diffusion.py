"""Diffusion against the published programs, and against solving the dense system."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from resight.graph.diffusion import affinity, diffuse, normalise, offline_diffusion, seeds, truncated_diffusion
from resight.graph.knn_graph import build_knn_graph, cut, neighbours
from resight.types import Ranking

REFERENCE = Path(__file__).parents[2] / "../shared/reference"
pytestmark = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference cases are not here")


@pytest.fixture(scope="module")
def small():
    data = np.load(REFERENCE / "data_small.npz")
    return data["Q"], data["X"]


def closest(scores, n=20):
    return np.argsort(-scores, axis=1, kind="stable")[:, :n]


def same_top(got, expected, n=20, tie=1e-9):
    """Whether the same rows lead, up to rows whose expected scores are equal."""
    picked = np.take_along_axis(expected, closest(got, n), axis=1)
    return np.allclose(-np.sort(-picked, axis=1), -np.sort(-expected, axis=1)[:, :n], atol=tie)


def test_diffusion_of_the_matlab_program(small):
    queries, vectors = small
    expected = np.load(REFERENCE / "dfs_octave.npz")
    affinities = affinity(build_knn_graph(vectors, 14), vectors=vectors)
    np.testing.assert_allclose(affinities.toarray(), expected["small_affinity"], rtol=0, atol=1e-12)
    y = seeds(neighbours(queries, vectors, 5), 600, queries=queries, vectors=vectors)
    np.testing.assert_allclose(y.toarray(), expected["small_k15_kq5_y"], rtol=0, atol=1e-12)
    f = diffuse(normalise(affinities), y)
    exact = diffuse(normalise(affinities), y, iterations=1000, tolerance=1e-12)
    for scores in (f, exact):  # The program gives, of its 20 steps, the one with the smallest residual.
        assert np.abs(scores - expected["small_k15_kq5_f"]).max() < 0.015 * exact.max()
    assert same_top(exact, expected["small_k15_kq5_f"])


def test_truncated_diffusion_of_the_matlab_program(small):
    queries, vectors = small
    expected = np.load(REFERENCE / "dfs_octave.npz")["small_k15_kq5_trunc100"]
    shortlist = neighbours(queries, vectors, 100)
    y = seeds(neighbours(queries, vectors, 5), 600, queries=queries, vectors=vectors)
    affinities = affinity(build_knn_graph(vectors, 14), vectors=vectors)
    found = truncated_diffusion(affinities, y, Ranking(shortlist.ids, shortlist.weights))
    np.testing.assert_allclose(found.scores, np.take_along_axis(expected, found.ids, axis=1), atol=1e-5)
    np.testing.assert_allclose(found.scores[:, :20], -np.sort(-expected, axis=1)[:, :20], atol=1e-5)


def test_offline_diffusion_of_the_python_program(small):
    queries, vectors = small
    expected = np.load(REFERENCE / "diffusion_fyang.npz")
    candidates = build_knn_graph(vectors, 199)
    affinities = affinity(cut(candidates, 14))
    np.testing.assert_allclose(affinities.toarray(), expected["affinity_small_n200_kd15_kq5"], rtol=1e-4, atol=1e-6)
    offline = offline_diffusion(normalise(affinities), candidates)
    wanted = expected["offline_small_n200_kd15_kq5"]
    np.testing.assert_allclose(offline.toarray(), wanted, atol=1e-4 * wanted.max())
    scores = (seeds(neighbours(queries, vectors, 5), 600) @ offline).toarray()
    wanted = expected["decoupled_small_n200_kd15_kq5_scores"]
    np.testing.assert_allclose(scores, wanted, atol=1e-4 * wanted.max())


def test_joint_diffusion_of_the_python_program(small):
    candidates = build_knn_graph(np.vstack(small), 199)
    profiles = offline_diffusion(normalise(affinity(cut(candidates, 14))), candidates).toarray()
    profiles /= np.linalg.norm(profiles, axis=1, keepdims=True)
    expected = np.load(REFERENCE / "diffusion_fyang.npz")["joint_small_n200_kd15_kq5_scores"]
    np.testing.assert_allclose(profiles[:20] @ profiles[20:].T, expected, atol=1e-4)


def test_exact_diffusion_and_affinity_of_the_paper(small):
    queries, vectors = small
    expected = np.load(REFERENCE / "misc.npz")
    affinities = affinity(build_knn_graph(vectors, 19))
    wanted = expected["mdiff_W"].copy()
    np.fill_diagonal(wanted, 0)
    np.testing.assert_allclose(affinities.toarray(), wanted, atol=1e-5)
    np.testing.assert_allclose(normalise(affinities).toarray(), expected["mdiff_Wn"], atol=1e-5)
    y = seeds(neighbours(queries, vectors, 10), 600)
    np.testing.assert_allclose(y.toarray(), expected["mdiff_y"], atol=1e-5)
    normalised = scipy.sparse.csr_array(expected["mdiff_Wn"])
    f = diffuse(normalised, expected["mdiff_y"], iterations=500, tolerance=1e-12)
    np.testing.assert_allclose(f, expected["exact_diffusion_f"], rtol=1e-5, atol=1e-9)
    assert same_top(f, expected["exact_diffusion_f"])
    f = diffuse(normalise(affinities), y, iterations=500, tolerance=1e-12)
    np.testing.assert_allclose(f, expected["exact_diffusion_f"], rtol=1e-4, atol=1e-5)


def test_against_the_dense_system(small):
    vectors = small[1][:80]
    candidates = build_knn_graph(vectors, 79)
    normalised = normalise(affinity(cut(candidates, 6)))
    inverse = np.linalg.inv(np.eye(80) - 0.9 * normalised.toarray())
    y = np.random.default_rng(0).random((3, 80))
    np.testing.assert_allclose(diffuse(normalised, y, 0.9, 200, 1e-13), y @ inverse, rtol=1e-9)
    offline = offline_diffusion(normalised, candidates, 0.9, 200, 1e-13)
    np.testing.assert_allclose(offline.toarray(), inverse, atol=1e-6)
    np.testing.assert_allclose(y @ offline, y @ inverse, atol=1e-5)
