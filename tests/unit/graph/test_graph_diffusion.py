"""Diffusion: disconnected graphs, truncation, off-line updates, regions, bad input."""

import numpy as np
import pytest
import scipy.sparse

from resight.errors import ArrayError, UsageError
from resight.graph.diffusion import affinity, diffuse, normalise, offline_diffusion, ranked, seeds, truncated_diffusion
from resight.graph.knn_graph import add_nodes, build_knn_graph, cut, neighbours
from resight.graph.offline import stale_rows
from resight.graph.regional import pool_regions, regional_seeds
from resight.types import KnnGraph, Ranking


def unit(rng, rows, dim=6):
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# 0 - 1 - 2 mutual; 3 lists 0 and is not listed; 4 stands alone.
GRAPH = KnnGraph(
    [[1, -1], [0, 2], [1, -1], [0, -1], [-1, -1]],
    [[0.5, -np.inf], [0.5, 0.25], [0.25, -np.inf], [0.9, -np.inf], [-np.inf, -np.inf]],
)


def test_affinity_keeps_mutual_edges_only():
    matrix = affinity(GRAPH, gamma=2.0).toarray()
    expected = np.zeros((5, 5))
    expected[0, 1] = expected[1, 0] = 0.25
    expected[1, 2] = expected[2, 1] = 0.0625
    np.testing.assert_allclose(matrix, expected)


def test_negative_similarities_carry_nothing_under_any_power():
    graph = KnnGraph([[1], [0]], [[-0.5], [-0.5]])
    assert affinity(graph, 0.5).nnz == 0
    assert seeds(graph, 2, 0.5).nnz == 0


def test_normalising_leaves_isolated_nodes_empty():
    matrix = affinity(GRAPH, 1.0)
    normalised = normalise(matrix)
    degrees = np.array([0.5, 0.75, 0.25])
    expected = np.zeros((5, 5))
    expected[:3, :3] = matrix.toarray()[:3, :3] / np.sqrt(np.outer(degrees, degrees))
    np.testing.assert_allclose(normalised.toarray(), expected)
    np.testing.assert_allclose(matrix.toarray()[0, 1], 0.5, err_msg="the affinity itself is not changed")


def test_scores_stay_in_the_component_of_the_seeds():
    y = seeds(KnnGraph([[0, 4], [3, -1], [-1, -1]], [[0.8, 0.1], [0.4, -np.inf], [-np.inf, -np.inf]]), 5)
    f = diffuse(normalise(affinity(GRAPH)), y, iterations=100, tolerance=1e-12)
    assert (f[0, :3] > 0).all()
    assert f[0, 3] == 0
    assert f[0, 4] == pytest.approx(0.001)
    np.testing.assert_allclose(f[1], [0, 0, 0, 0.064, 0], atol=1e-9)
    np.testing.assert_array_equal(f[2], 0)
    assert ranked(f, 3).ids[1].tolist() == [3, 0, 1]


def test_blocks_of_queries_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    normalised = normalise(affinity(build_knn_graph(unit(rng, 50), 5)))
    y = rng.random((7, 50))
    whole = diffuse(normalised, y)
    monkeypatch.setattr("resight.graph.diffusion.BLOCK_VALUES", 100)
    np.testing.assert_allclose(diffuse(normalised, y), whole, rtol=1e-12)
    np.testing.assert_allclose(diffuse(normalised, scipy.sparse.csr_array(y)), whole, rtol=1e-12)
    np.testing.assert_allclose(diffuse(normalised, y, alpha=0.0), y, rtol=1e-12)


def test_truncation_to_everything_changes_nothing():
    rng = np.random.default_rng(1)
    vectors, queries = unit(rng, 40), unit(rng, 3)
    matrix, y = affinity(build_knn_graph(vectors, 5)), seeds(neighbours(queries, vectors, 4), 40)
    near = neighbours(queries, vectors, 40)
    found = truncated_diffusion(matrix, y, Ranking(near.ids, near.weights), iterations=300, tolerance=1e-12)
    f = diffuse(normalise(matrix), y, iterations=300, tolerance=1e-12)
    np.testing.assert_allclose(found.scores, np.take_along_axis(f, found.ids, axis=1), atol=1e-6)
    lists = Ranking.from_lists([[3, 7], [5], []], [[1.0, 1.0], [1.0], []])
    short = truncated_diffusion(matrix, y, lists)
    assert [sorted(row[row >= 0].tolist()) for row in short.ids] == [[3, 7], [5], []]


def test_offline_rows_of_added_photos():
    rng = np.random.default_rng(2)
    centres = unit(rng, 20, 24)
    vectors = np.vstack([np.repeat(centres, 20, axis=0), centres[:2]]) + 0.5 * unit(rng, 402, 24)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    first = build_knn_graph(vectors[:400], 10)
    states = [(normalise(affinity(cut(graph, 4))), graph) for graph in (first, add_nodes(first, vectors))]
    before, after = (offline_diffusion(*state) for state in states)
    stale = stale_rows(*states)
    assert 2 < len(stale) < 200
    kept = np.setdiff1d(np.arange(400), stale)
    np.testing.assert_allclose(after.toarray()[kept, :400], before.toarray()[kept], atol=1e-6)
    assert after[kept][:, 400:].nnz == 0
    anew = offline_diffusion(*states[1], rows=stale)
    np.testing.assert_array_equal(anew.toarray(), after.toarray()[stale])
    with pytest.raises(ArrayError, match="shrank"):
        stale_rows(states[1], states[0])


def test_offline_diffusion_tells_duplicates_by_row():
    vectors = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    candidates = build_knn_graph(vectors, 5)
    result = offline_diffusion(normalise(affinity(cut(candidates, 2))), candidates, 0.5, 50, 1e-9).toarray()
    expected = np.kron(np.eye(4), np.linalg.inv(np.eye(3) - 0.25 * (1 - np.eye(3))))
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_regional_seeds_sum_over_the_regions_of_a_query():
    near = KnnGraph([[0, 1], [1, 2], [2, 0], [3, -1]], [[0.5, 0.4], [0.3, -0.2], [0.9, 0.1], [0.2, -np.inf]])
    y = regional_seeds(near, [0, 0, 1, 1], nodes=4, kept=2, gamma=2.0).toarray()
    np.testing.assert_allclose(y, [[0.25, 0.49, 0, 0], [0, 0, 0.81, 0.04]], atol=1e-7)


def test_pooling_counts_repeated_regions_once():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    images = [0, 0, 0, 2]
    pooled = pool_regions(np.array([[1.0, 1.0, 1.0, 5.0]]), images, vectors, regularisation=1e-9)
    np.testing.assert_allclose(pooled, [[2.0, 0.0, 5.0]], atol=1e-6)
    gram = vectors[:3] @ vectors[:3].T + np.eye(3)
    weights = np.linalg.solve(gram, np.ones(3))
    scores = np.array([[0.3, 0.9, 0.1, 0.0]])
    np.testing.assert_allclose(pool_regions(scores, images, vectors)[0, 0], scores[0, :3] @ weights, atol=1e-9)


Y = np.ones((1, 5))
S = normalise(affinity(GRAPH))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: affinity(GRAPH, 0), "gamma=0"),
        (lambda: affinity(GRAPH, vectors=np.ones((4, 2), np.float32)), "do not fit the 5 nodes"),
        (lambda: affinity(KnnGraph([[4]], [[1.0]])), "names neighbour 4"),
        (lambda: seeds(KnnGraph([[5]], [[1.0]]), 5), "neighbour 5"),
        (lambda: seeds(GRAPH, 5, queries=np.ones((5, 2))), "both queries and vectors"),
        (lambda: diffuse(S, Y, alpha=1.0), "alpha=1.0"),
        (lambda: diffuse(S, Y, iterations=0), "iterations=0"),
        (lambda: diffuse(S, Y[:, :4]), "expected"),
        (lambda: diffuse(S, Y * np.nan), "NaN"),
        (lambda: diffuse(S.toarray(), Y), "csr_array"),
        (lambda: ranked(Y, 0), "0 results"),
        (lambda: ranked(Y * np.nan, 1), "finite"),
        (lambda: truncated_diffusion(S, scipy.sparse.csr_array(Y), Ranking([[7]], [[1.0]])), "row 7"),
        (lambda: truncated_diffusion(S, scipy.sparse.csr_array(Y), Ranking([[1], [1]], [[1.0], [1.0]])), "expected"),
        (lambda: offline_diffusion(S, cut(GRAPH, 1), alpha=2), "alpha=2"),
        (lambda: offline_diffusion(S, KnnGraph([[1], [0]], [[1.0], [1.0]])), "2 nodes"),
        (lambda: offline_diffusion(S, GRAPH, rows=[5]), "rows 0 to 4"),
        (lambda: regional_seeds(GRAPH, [0] * 5, 5, 0), "kept=0"),
        (lambda: regional_seeds(GRAPH, [-1] * 5, 5, 1), "numbered from 0"),
        (lambda: regional_seeds(GRAPH, [0] * 5, 2, 1), "2 nodes"),
        (lambda: pool_regions(Y, [0] * 5, np.ones((5, 2)), 0), "regularisation=0"),
        (lambda: pool_regions(Y, [0] * 4, np.ones((4, 2))), "expected"),
        (lambda: pool_regions(Y, [-1] * 5, np.ones((5, 2))), "numbered from 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_a_collection_of_one_photo():
    alone = build_knn_graph(np.ones((1, 1), np.float32), 3)
    normalised = normalise(affinity(alone))
    np.testing.assert_allclose(diffuse(normalised, np.array([[0.5]])), [[0.5]])
    np.testing.assert_allclose(offline_diffusion(normalised, alone).toarray(), [[1.0]])
