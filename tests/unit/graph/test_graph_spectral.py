"""Spectral ranking, manifold embedding, reciprocal neighbours: degenerate collections and bad input."""

import numpy as np
import pytest
import scipy.sparse

from resight.errors import UsageError
from resight.graph.diffusion import affinity, normalise
from resight.graph.knn_graph import build_knn_graph
from resight.graph.manifold import iterative_embedding
from resight.graph.reciprocal import k_reciprocal
from resight.graph.spectral import hybrid_diffusion, spectral_basis, spectral_ranking


def unit(rng, rows, dim=8):
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


X = unit(np.random.default_rng(0), 120)
S = normalise(affinity(build_knn_graph(X, 8)))


def test_basis_holds_the_largest_eigenpairs_and_no_others():
    basis = spectral_basis(S, 12, tolerance=1e-8)
    np.testing.assert_allclose(basis.values, np.linalg.eigvalsh(S.toarray())[::-1][:12], atol=1e-9)
    np.testing.assert_allclose(basis.vectors.T @ basis.vectors, np.eye(12), atol=1e-9)
    np.testing.assert_allclose(S @ basis.vectors, basis.vectors * basis.values, atol=1e-7)


def test_basis_is_the_same_every_time_and_finds_repeated_eigenvalues():
    groups = scipy.sparse.csr_array(np.kron(np.eye(40), (1 - np.eye(3)) / 2))
    basis = spectral_basis(groups, 20)
    np.testing.assert_allclose(basis.values, 1, atol=1e-6)
    np.testing.assert_array_equal(basis.vectors, spectral_basis(groups, 20).vectors)


def test_too_few_rounds_are_told():
    with pytest.raises(UsageError, match="allow more rounds"):
        spectral_basis(S, 12, tolerance=1e-14, rounds=1)


def test_embedding_joins_what_paths_join():
    angle = np.linspace(0, 2.6, 60)
    arc = np.stack([np.cos(angle), np.sin(angle), np.zeros(60)], axis=1)
    far = np.stack([np.zeros(30), np.cos(angle[:30]), np.sin(angle[:30]) + 0.5], axis=1)
    vectors = np.vstack([arc, far]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embedding = iterative_embedding(vectors, components=20, k=3)
    assert embedding.database.shape == (90, 20)
    np.testing.assert_allclose(np.linalg.norm(embedding.database, axis=1), 1, atol=1e-5)
    assert embedding.embed(vectors[:4]).shape == (4, 20)


def test_unreachable_photos_are_far_unless_faithful():
    vectors = np.repeat(np.eye(2, dtype=np.float32), 6, axis=0)
    vectors += 0.05 * unit(np.random.default_rng(1), 12, 2)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    grams = [iterative_embedding(vectors, 11, 3, 1, faithful=f).database for f in (False, True)]
    between = [(g @ g.T)[:6, 6:].mean() for g in grams]
    within = [(g @ g.T)[:6, :6].mean() for g in grams]
    assert within[0] - between[0] > within[1] - between[1]


def test_embedding_takes_duplicates_and_zero_vectors():
    vectors = np.vstack([np.repeat(X[:1], 5, axis=0), X[1:20], np.zeros((1, 8), np.float32)])
    assert np.isfinite(iterative_embedding(vectors, 10).database).all()


def test_k_reciprocal_with_duplicates_and_tiny_collections():
    vectors = np.repeat(X[:6], 4, axis=0)
    ranking = k_reciprocal(X[:6], vectors, k1=4, k2=2)
    for query in range(6):
        assert sorted(ranking.ids[query, :4].tolist()) == list(range(4 * query, 4 * query + 4))
    assert k_reciprocal(X[:1], X[:1], k1=5, k2=3).ids.tolist() == [[0]]
    np.testing.assert_array_equal(k_reciprocal(X[:6], vectors, 4, 2, limit=3).ids, ranking.ids[:, :3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectral_basis(S, 0), "rank=0"),
        (lambda: spectral_basis(S, 121), "rank=121"),
        (lambda: spectral_ranking(spectral_basis(S, 120), np.ones((1, 7))), "expected"),
        (lambda: spectral_ranking(spectral_basis(S, 120), np.ones((1, 120)), alpha=1), "alpha=1"),
        (lambda: hybrid_diffusion(S[:9, :9], np.ones((1, 120)), spectral_basis(S, 120)), "9 nodes"),
        (lambda: hybrid_diffusion(S, np.ones((1, 120)), spectral_basis(S, 120), iterations=0), "iterations=0"),
        (lambda: iterative_embedding(X, 0), "components=0"),
        (lambda: iterative_embedding(X[:1]), "1 rows cannot be embedded"),
        (lambda: iterative_embedding(np.ones((10_001, 1), np.float32)), "10001 rows"),
        (lambda: iterative_embedding(X, 5).embed(X[:, :3]), "expected 8"),
        (lambda: k_reciprocal(X[:2], X, 0, 1), "k1=0"),
        (lambda: k_reciprocal(X[:2], X, 3, 5), "k2=5"),
        (lambda: k_reciprocal(X[:2], X, original_weight=2), "original_weight=2"),
        (lambda: k_reciprocal(X[:2], X, limit=0), "0 results"),
        (lambda: k_reciprocal(X[:2, :3], X), "must agree"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UsageError, match=message):
        call()
