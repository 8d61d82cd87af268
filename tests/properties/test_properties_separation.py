"""What must hold for every graph convolution and every separation loss."""

import numpy as np
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from resight.graph.adjacency import adjacency
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.propagation_matrix import propagation_matrix
from resight.graph.separation import SimilaritySeparation
from resight.training.separation.beta import similarity_percentile
from resight.training.separation.loss import loss_and_gradient
from resight.types import KnnGraph

torch.set_num_threads(1)
SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def world(seed):
    """Unit vectors about one direction, none with weights that add up to nothing, their graph, and a generator."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(int(rng.integers(3, 40)), 6)) + 1
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    graph = build_knn_graph(x, int(rng.integers(1, min(5, len(x) - 1) + 1)))
    assume((adjacency(graph, "max").matrix().sum(axis=1) > -1).all())
    return x, graph, rng


@few
@given(SEEDS, st.integers(1, 3))
def test_renaming_the_photos_renames_the_embeddings(seed, layers):
    x, graph, rng = world(seed)
    order = rng.permutation(len(x))
    back = np.argsort(order)
    renamed = KnnGraph(np.where(graph.ids < 0, -1, back[graph.ids])[order], graph.weights[order])
    embedded = SimilaritySeparation(6, layers).embed(x, graph)
    np.testing.assert_allclose(SimilaritySeparation(6, layers).embed(x[order], renamed), embedded[order], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)


@few
@given(SEEDS)
@example(287794330)
def test_the_matrix_is_symmetric_and_does_not_grow_vectors(seed):
    x, graph, _ = world(seed)
    matrix = propagation_matrix(x, graph).matrix.toarray()
    np.testing.assert_array_equal(matrix, matrix.T)
    if matrix.min() >= 0:
        assert np.linalg.eigvalsh(matrix.astype(float)).max() <= 1 + 1e-5


@few
@given(SEEDS)
def test_a_copy_of_a_photo_as_query_lands_near_it(seed):
    x, graph, _ = world(seed)
    model = SimilaritySeparation(6, 1)
    embedded = model.embed(x, graph)
    own = neighbours(x, x, 1)
    extended = model.extend(x, own)
    assert np.isfinite(extended).all()
    assert (np.einsum("nd,nd->n", extended, embedded) > 0).all()


@few
@given(SEEDS, st.floats(-0.9, 0.9))
def test_both_ways_to_the_loss_agree_and_move_with_a_rotation(seed, beta):
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(int(rng.integers(2, 50)), 5)) + rng.choice([0, 0.5, 3])
    e = torch.from_numpy(e / np.linalg.norm(e, axis=1, keepdims=True))
    (direct, gradient), (closed, same) = (loss_and_gradient(e, beta, method=m) for m in ("direct", "closed"))
    np.testing.assert_allclose(closed, direct, atol=1e-12)
    torch.testing.assert_close(same, gradient, atol=1e-12, rtol=1e-9)
    turn, _ = torch.linalg.qr(torch.from_numpy(rng.normal(size=(5, 5))))
    turned, moved = loss_and_gradient(e @ turn, beta, method="direct")
    np.testing.assert_allclose(turned, direct, atol=1e-9)
    torch.testing.assert_close(moved, gradient @ turn, atol=1e-9, rtol=1e-6)


@few
@given(SEEDS, st.floats(0, 100))
def test_percentiles_rise(seed, percentile):
    x, _, _ = world(seed)
    low, high = (similarity_percentile(x, p, exact_rows=1).value for p in (percentile / 2, percentile))
    assert low <= high + 1e-6
    exact = np.percentile(x @ x.T, percentile)
    assert abs(high - exact) < 1e-4
