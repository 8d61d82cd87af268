"""Spectral and hybrid ranking, iterative manifold embedding and k-reciprocal re-ranking against reference cases."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from resight.graph.diffusion import affinity, diffuse, normalise, seeds
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.manifold import iterative_embedding
from resight.graph.reciprocal import k_reciprocal
from resight.graph.spectral import hybrid_diffusion, spectral_basis, spectral_embedding, spectral_ranking

REFERENCE = Path(__file__).parents[2] / "../shared/reference"
pytestmark = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference cases are not here")


@pytest.fixture(scope="module")
def misc():
    return np.load(REFERENCE / "misc.npz")


@pytest.fixture(scope="module")
def small():
    data = np.load(REFERENCE / "data_small.npz")
    return data["Q"], data["X"]


def test_spectral_ranking_of_the_closed_form(misc):
    normalised = scipy.sparse.csr_array(misc["mdiff_Wn"])
    basis = spectral_basis(normalised, 50, tolerance=1e-7)
    np.testing.assert_allclose(basis.values, misc["fsr_R50_eigs"], atol=1e-9)
    f = spectral_ranking(basis, misc["mdiff_y"])
    np.testing.assert_allclose(f, misc["fsr_R50_f"], atol=1e-8)
    np.testing.assert_allclose(spectral_ranking(spectral_basis(normalised, 50), misc["mdiff_y"]), f, atol=1e-5)
    embedding = spectral_embedding(basis)
    np.testing.assert_allclose(misc["mdiff_y"] @ embedding @ embedding.T, f, atol=1e-12)


def test_spectral_ranking_of_descriptors(misc, small):
    queries, vectors = small
    normalised = normalise(affinity(build_knn_graph(vectors, 19)))
    y = seeds(neighbours(queries, vectors, 10), 600)
    basis = spectral_basis(normalised, 50)
    np.testing.assert_allclose(spectral_ranking(basis, y), misc["fsr_R50_f"], atol=1e-5)
    np.testing.assert_allclose(hybrid_diffusion(normalised, y, basis), misc["hybrid_R50_f"], atol=1e-5)


@pytest.mark.parametrize("rank", [1, 50, 600])
def test_hybrid_equals_exact_diffusion_for_any_rank(misc, rank):
    normalised = scipy.sparse.csr_array(misc["mdiff_Wn"])
    basis = spectral_basis(normalised, rank, tolerance=1e-7)
    f = hybrid_diffusion(normalised, misc["mdiff_y"], basis, iterations=500, tolerance=1e-12)
    np.testing.assert_allclose(f, misc["hybrid_R50_f"], atol=1e-6)
    np.testing.assert_allclose(100 * f, misc["exact_diffusion_f"], atol=1e-4)


def test_deflation_saves_iterations(misc):
    normalised = scipy.sparse.csr_array(misc["mdiff_Wn"])
    basis = spectral_basis(normalised, 50)
    few = hybrid_diffusion(normalised, misc["mdiff_y"], basis, iterations=6)
    plain = 0.01 * diffuse(normalised, misc["mdiff_y"], iterations=6)
    error = [np.abs(f - misc["hybrid_R50_f"]).max() for f in (few, plain)]
    assert error[0] < error[1] / 10


def test_full_rank_spectral_ranking_is_exact(misc):
    basis = spectral_basis(scipy.sparse.csr_array(misc["mdiff_Wn"]), 600)
    f = spectral_ranking(basis, scipy.sparse.csr_array(misc["mdiff_y"]))
    np.testing.assert_allclose(100 * f, misc["exact_diffusion_f"], atol=1e-8)


def test_iterative_manifold_embedding(misc, small):
    queries, vectors = small
    embedding = iterative_embedding(vectors, components=64)
    np.testing.assert_allclose(embedding.database @ embedding.database.T, misc["ime_db_gram"], atol=1e-5)
    embedded = embedding.embed(queries)
    np.testing.assert_allclose(embedded @ embedding.database.T, misc["ime_query_scores"], atol=1e-5)
    mapped = embedding.embed(vectors)
    np.testing.assert_allclose(embedded @ mapped.T, misc["ime_query_scores_dbmapped"], atol=1e-5)


def test_k_reciprocal_rankings_of_pyretri(misc, small):
    ranking = k_reciprocal(*small, 20, 6, 0.3, faithful=True)
    np.testing.assert_array_equal(ranking.ids, misc["pyretri_krecip_20_6_0.3"])


def plain_k_reciprocal(queries, vectors, k1, k2, weight):
    both = np.vstack((queries, vectors)).astype(np.float64)
    distance = np.maximum(2 - 2 * both @ both.T, 0)
    distance /= distance.max(axis=1, keepdims=True)
    order = np.argsort(distance, axis=1, kind="stable")

    def reciprocal(i, k):
        return {j for j in order[i, : k + 1] if i in order[j, : k + 1]}

    encoded = np.zeros(distance.shape)
    for i in range(len(both)):
        near = reciprocal(i, k1)
        members = set(near)
        for j in near:
            nearer = reciprocal(j, int(np.around(k1 / 2)))
            if len(nearer & near) > 2 / 3 * len(nearer):
                members |= nearer
        members = sorted(members)
        encoded[i, members] = np.exp(-distance[i, members])
    encoded /= encoded.sum(axis=1, keepdims=True)
    encoded = np.stack([encoded[order[i, :k2]].mean(axis=0) for i in range(len(both))])
    count = len(queries)
    result = np.empty((count, len(vectors)))
    for i in range(count):
        for j in range(len(vectors)):
            shared = np.minimum(encoded[i], encoded[count + j]).sum()
            result[i, j] = (1 - weight) * (1 - shared / (2 - shared)) + weight * distance[i, count + j]
    return result


@pytest.mark.parametrize(("k1", "k2", "weight"), [(7, 3, 0.3), (10, 1, 0.0), (4, 5, 0.8), (1, 1, 0.5)])
def test_k_reciprocal_against_plain_loops(small, k1, k2, weight):
    queries, vectors = small[0][:4], small[1][:70]
    expected = plain_k_reciprocal(queries, vectors, k1, k2, weight)
    ranking = k_reciprocal(queries, vectors, k1, k2, weight)
    np.testing.assert_allclose(-ranking.scores, np.take_along_axis(expected, ranking.ids, axis=1), atol=1e-6)
    np.testing.assert_allclose(-ranking.scores, np.sort(expected, axis=1), atol=1e-6)
