import numpy as np
import pytest
import scipy.sparse
import torch

from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import build_knn_graph, neighbours
from resight.graph.propagation_matrix import listed_graph, propagation_matrix, query_rows
from resight.graph.separation import Mixing, SimilaritySeparation, smoothed
from resight.types import KnnGraph

torch.set_num_threads(1)


def unit(rng, *shape):
    x = rng.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def vectors(rng):
    return unit(rng, 40, 12)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_matrix_of_three_photos_by_hand():
    x = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    graph = KnnGraph([[1], [2], [1]], [[0.6], [0.8], [0.8]])
    found = propagation_matrix(x, graph)
    np.testing.assert_allclose(found.degrees, [1.6, 2.4, 1.8], rtol=1e-6)
    scale = 1 / np.sqrt([1.6, 2.4, 1.8])
    expected = np.array([[1, 0.6, 0], [0.6, 1, 0.8], [0, 0.8, 1]]) * scale * scale[:, None]
    np.testing.assert_allclose(found.matrix.toarray(), expected, rtol=1e-6)


def test_inlier_counts_choose_edges_only(vectors):
    graph = build_knn_graph(vectors, 3)
    counts = KnnGraph(graph.ids, np.full(graph.ids.shape, 30, np.float32))
    np.testing.assert_array_equal(
        propagation_matrix(vectors, counts).matrix.toarray(), propagation_matrix(vectors, graph).matrix.toarray()
    )


def test_an_isolated_photo_keeps_to_itself(vectors):
    graph = build_knn_graph(vectors, 2)
    ids = np.where((graph.ids == 5) | (np.arange(40)[:, None] == 5), -1, graph.ids)
    order = np.argsort(ids < 0, axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=1)
    weights = np.where(ids < 0, -np.inf, np.take_along_axis(graph.weights, order, axis=1))
    matrix = propagation_matrix(vectors, KnnGraph(ids, weights)).matrix.toarray()
    np.testing.assert_array_equal(matrix[5], np.eye(40)[5])
    embedded = SimilaritySeparation(12).embed(vectors, KnnGraph(ids, weights))
    assert np.isfinite(embedded).all()


def test_duplicates_are_neighbours_like_others(vectors):
    x = np.vstack([vectors, vectors[:1]])
    graph = build_knn_graph(x, 4)
    assert graph.ids[40, 0] == 0
    embedded = SimilaritySeparation(12).embed(x, graph)
    assert embedded[0] @ embedded[40] > 0.95
    assert embedded[0] @ embedded[40] > (embedded[0] @ embedded[1:40].T).max()


def test_queries_as_rows_of_the_joint_matrix(vectors, rng):
    for layers in (1, 2, 3):
        model = SimilaritySeparation(12, layers, seed=layers)
        with torch.no_grad():
            for weight in model.weights:
                weight += 0.3 * torch.from_numpy(rng.normal(size=(12, 12)).astype(np.float32))
        graph = build_knn_graph(vectors, 4)
        queries = unit(rng, 6, 12)
        near = neighbours(queries, vectors, 3)
        index = model.embed(vectors, graph)
        extended = model.extend(queries, near)
        collection = propagation_matrix(vectors, graph)
        rows = query_rows(queries, near, vectors, collection.degrees)
        joint = scipy.sparse.csr_array(
            scipy.sparse.block_array([[scipy.sparse.diags_array(rows.own), rows.matrix], [None, collection.matrix]])
        )
        with torch.no_grad():
            mixing = Mixing.build(joint, model.device)
            both = model(torch.from_numpy(np.vstack([queries, vectors])), [mixing] * layers).numpy()
        np.testing.assert_allclose(extended, both[:6], atol=1e-6)
        np.testing.assert_allclose(index, both[6:], atol=1e-6)


def test_an_index_that_was_kept(vectors, rng):
    model, other = SimilaritySeparation(12), SimilaritySeparation(12)
    graph, queries = build_knn_graph(vectors, 4), unit(rng, 3, 12)
    near = neighbours(queries, vectors, 3)
    model.embed(vectors, graph)
    other.attach(model.index)
    np.testing.assert_array_equal(other.extend(queries, near), model.extend(queries, near))
    for misfit in (SimilaritySeparation(12, 3), SimilaritySeparation(11)):
        with pytest.raises(ArrayError, match="as many arrays"):
            misfit.attach(model.index)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_an_untrained_network_smooths(vectors, layers):
    model, propagation = SimilaritySeparation(12, layers), propagation_matrix(vectors, build_knn_graph(vectors, 4))
    plain = smoothed(vectors, propagation, layers, 0.3, model.device)
    np.testing.assert_allclose(model.embed(vectors, propagation), plain, atol=1e-4)


def test_a_query_does_not_depend_on_other_queries(vectors, rng):
    model = SimilaritySeparation(12)
    model.embed(vectors, build_knn_graph(vectors, 4))
    queries = unit(rng, 5, 12)
    near = neighbours(queries, vectors, 4)
    one = model.extend(queries[2:3], KnnGraph(near.ids[2:3], near.weights[2:3]))
    np.testing.assert_allclose(model.extend(queries, near)[2:3], one, atol=1e-6)


def test_both_orders_of_the_product_agree(vectors):
    model = SimilaritySeparation(12)
    matrix = propagation_matrix(vectors, build_knn_graph(vectors, 4)).matrix
    x = torch.from_numpy(vectors)
    square = Mixing.build(matrix, model.device, symmetric=True)
    fewer = Mixing.build(scipy.sparse.csr_array(matrix[:30]), model.device)
    whole, part = model(x, [square] * 2), model(x, [square, fewer])
    torch.testing.assert_close(part, whole[:30], atol=1e-6, rtol=0)
    gradients = [torch.autograd.grad(e[:30, 0].sum(), model.weights[0])[0] for e in (whole, part)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_gradients_of_the_dense_formula(vectors):
    model = SimilaritySeparation(12, 2, residual=0.7)
    matrix = propagation_matrix(vectors, build_knn_graph(vectors, 4)).matrix
    x, dense = torch.from_numpy(vectors), torch.from_numpy(matrix.toarray())
    found = model(x, [Mixing.build(matrix, model.device, symmetric=True)] * 2)
    before = dense @ x @ model.weights[0] + model.biases[0]
    h = before + 0.7 * torch.nn.functional.elu(
        dense @ torch.nn.functional.elu(before) @ model.weights[1] + model.biases[1]
    )
    expected = h / h.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected)
    target = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    gradients = [torch.autograd.grad((e * target).sum(), list(model.parameters())) for e in (found, expected)]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_bfloat16_is_close_to_float32(vectors):
    graph = build_knn_graph(vectors, 4)
    exact = SimilaritySeparation(12).embed(vectors, graph)
    rounded = SimilaritySeparation(12, precision="bfloat16").embed(vectors, graph)
    assert not np.array_equal(exact, rounded)
    assert (exact * rounded).sum(axis=1).min() > 0.9999


def test_read_only_vectors(vectors):
    vectors.flags.writeable = False
    graph = build_knn_graph(vectors, 4)
    model = SimilaritySeparation(12)
    assert model.embed(vectors, graph).shape == (40, 12)
    assert model.extend(vectors[:2], neighbours(vectors[:2], vectors, 3)).shape == (2, 12)


def test_the_same_seed_gives_the_same_network():
    for seed, same in ((3, True), (4, False)):
        weight = SimilaritySeparation(5, seed=seed).weights[0].detach().numpy()
        assert np.array_equal(weight, SimilaritySeparation(5, seed=3).weights[0].detach().numpy()) is same
        np.testing.assert_array_equal(np.diag(weight), 1)
        assert 0 < np.abs(weight - np.eye(5)).max() < 1e-4


def test_lists_of_verified_neighbours(vectors):
    lists = np.array([[0, 3, 2], [1, 0, 2], [2, -1, -1]])
    graph = listed_graph(lists, vectors[:3], vectors[:3].repeat(2, axis=0), 2)
    np.testing.assert_array_equal(graph.ids, [[0, 3], [1, 0], [2, -1]])
    np.testing.assert_allclose(graph.weights[0], [1, vectors[0] @ vectors[1]], atol=1e-6)
    same = listed_graph(np.array([[0, 2, 1], [1, 0, 2], [2, 0, 1]]), vectors[:3], vectors[:3], 2, same=True)
    np.testing.assert_array_equal(same.ids, [[2, -1], [0, -1], [0, -1]])  # a photo's own place is not given away


@pytest.mark.parametrize(
    ("lists", "k", "message"), [([[0, 1]], 3, "2 entries"), ([[0, 9]], 2, "9 of 5"), ([[0.5, 1]], 1, "integers")]
)
def test_bad_lists(vectors, lists, k, message):
    with pytest.raises(ArrayError, match=message):
        listed_graph(np.array(lists), vectors[:1], vectors[:5], k)


def test_bad_collections(vectors, rng):
    graph = build_knn_graph(vectors, 4)
    model = SimilaritySeparation(12)
    with pytest.raises(ArrayError, match="40 nodes for 39 vectors"):
        model.embed(vectors[:39], graph)
    with pytest.raises(ArrayError, match="build the graph from these vectors"):
        model.embed(unit(rng, 40, 12), graph)
    with pytest.raises(ArrayError, match="neighbour 77"):
        model.embed(vectors, KnnGraph(np.full((40, 1), 77), np.ones((40, 1))))
    with pytest.raises(UsageError, match="k of at most 3"):
        model.embed(vectors[:4], build_knn_graph(vectors[:4], 4))
    with pytest.raises(UsageError, match="joins no two photos"):
        model.embed(vectors, KnnGraph(np.full((40, 2), -1), np.full((40, 2), -np.inf)))
    with pytest.raises(ArrayError, match=r"row 3 of .* holds NaN or infinity"):
        model.embed(np.where(np.arange(40)[:, None] == 3, np.nan, vectors).astype(np.float32), graph)
    with pytest.raises(ArrayError, match="row 2 has length 2"):
        model.embed(np.where(np.arange(40)[:, None] == 2, 2 * vectors, vectors), graph)
    same = np.repeat(vectors[:1], 40, axis=0)
    with pytest.raises(ArrayError, match="all 40 vectors are the same"):
        model.embed(same, build_knn_graph(same, 4))
    with pytest.raises(ArrayError, match=r"expected \(any, 13\)"):
        SimilaritySeparation(13).embed(vectors, graph)
    opposite = np.array([[1, 0], [-1, 0], [-1, 0]], np.float32)
    with pytest.raises(ArrayError, match="use fewer neighbours"):
        propagation_matrix(opposite, build_knn_graph(opposite, 2))


def test_bad_queries(vectors, rng):
    graph, model = build_knn_graph(vectors, 4), SimilaritySeparation(12)
    queries = unit(rng, 3, 12)
    near = neighbours(queries, vectors, 3)
    with pytest.raises(UsageError, match="call embed"):
        model.extend(queries, near)
    model.embed(vectors, graph)
    with pytest.raises(ArrayError, match="one per query"):
        model.extend(queries[:2], near)
    with pytest.raises(ArrayError, match="row 0 has length"):
        model.extend(3 * queries, near)
    with pytest.raises(ArrayError, match="build the graph from these vectors"):
        model.extend(unit(rng, 3, 12), near)
    with pytest.raises(ArrayError, match="queries holds NaN"):
        model.extend(np.full((3, 12), np.nan, np.float32), near)


@pytest.mark.parametrize(
    "arguments", [{"dim": 0}, {"dim": 4, "layers": 0}, {"dim": 4, "residual": np.nan}, {"dim": 4, "precision": "int8"}]
)
def test_bad_networks(arguments):
    with pytest.raises(UsageError):
        SimilaritySeparation(**arguments)
