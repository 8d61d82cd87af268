"""The kNN graph: duplicates, padding, adding, removing, searchers, bad input."""

import faiss
import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.graph import knn_graph
from resight.graph.adjacency import Adjacency, adjacency
from resight.graph.knn_graph import add_nodes, build_knn_graph, cut, neighbours, remove_nodes
from resight.types import KnnGraph, Ranking


def unit(rng, rows, dim=16):
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(knn_graph, "BLOCK", 16)


def plain_graph(vectors, k):
    products = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(products, -np.inf)
    return np.argsort(-products, axis=1, kind="stable")[:, :k]


@pytest.mark.usefixtures("small_blocks")
def test_equals_sorting_all_pairs():
    vectors = unit(np.random.default_rng(0), 70)
    graph = build_knn_graph(vectors, 7)
    np.testing.assert_array_equal(graph.ids, plain_graph(vectors, 7))
    expected = np.take_along_axis(vectors @ vectors.T, graph.ids.astype(np.int64), axis=1)
    np.testing.assert_allclose(graph.weights, expected, atol=1e-6)
    assert graph.ids.dtype == np.int32


@pytest.mark.usefixtures("small_blocks")
def test_queries_may_find_their_own_row():
    vectors = unit(np.random.default_rng(1), 40)
    found = neighbours(vectors[5:8], vectors, 4)
    np.testing.assert_array_equal(found.ids[:, 0], [5, 6, 7])
    expected = np.argsort(-(vectors[5:8] @ vectors.T), axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(found.ids, expected)


@pytest.mark.usefixtures("small_blocks")
def test_a_duplicate_is_a_neighbour_and_the_photo_itself_is_not():
    vectors = np.repeat(np.eye(8, dtype=np.float32), 6, axis=0)
    graph = build_knn_graph(vectors, 5)
    for row, ids in enumerate(graph.ids):
        group = [other for other in range(row // 6 * 6, row // 6 * 6 + 6) if other != row]
        assert ids.tolist() == group
    np.testing.assert_array_equal(build_knn_graph(vectors, 7).ids[0], [1, 2, 3, 4, 5, 6, 7])


def test_lists_are_padded_where_the_collection_is_smaller_than_k():
    vectors = unit(np.random.default_rng(2), 3)
    graph = build_knn_graph(vectors, 5)
    assert graph.ids.shape == (3, 5)
    np.testing.assert_array_equal(graph.ids >= 0, [[True, True, False, False, False]] * 3)
    one = build_knn_graph(vectors[:1], 2)
    np.testing.assert_array_equal(one.ids, [[-1, -1]])
    assert len(build_knn_graph(np.empty((0, 4), np.float32), 2)) == 0


def test_zero_vectors_have_similarity_zero():
    vectors = np.vstack([np.zeros((1, 4)), np.eye(4)[:2], -np.eye(4)[:1]]).astype(np.float32)
    graph = build_knn_graph(vectors, 3)
    np.testing.assert_array_equal(graph.ids[0], [1, 2, 3])
    np.testing.assert_array_equal(graph.weights[0], 0)
    np.testing.assert_array_equal(graph.ids[1], [0, 2, 3])
    assert graph.weights[1, 2] == -1


def test_larger_k_serves_smaller_k():
    vectors = unit(np.random.default_rng(3), 50)
    large, small = build_knn_graph(vectors, 9), build_knn_graph(vectors, 4)
    np.testing.assert_array_equal(cut(large, 4).ids, small.ids)
    np.testing.assert_array_equal(cut(large, 4).weights, small.weights)
    with pytest.raises(UsageError, match="cannot be cut to 10"):
        cut(large, 10)


@pytest.mark.usefixtures("small_blocks")
def test_adding_and_removing_equal_building():
    vectors = unit(np.random.default_rng(4), 90)
    grown = add_nodes(add_nodes(build_knn_graph(vectors[:33], 6), vectors[:50]), vectors)
    full = build_knn_graph(vectors, 6)
    np.testing.assert_array_equal(grown.ids, full.ids)
    np.testing.assert_allclose(grown.weights, full.weights, atol=1e-6)
    rows = np.array([0, 17, 89, 40, 41, 17])
    stays = np.delete(vectors, rows, axis=0)
    left = remove_nodes(full, rows, stays)
    np.testing.assert_array_equal(left.ids, build_knn_graph(stays, 6).ids)


def test_removing_without_vectors_shortens_lists():
    ids = np.array([[1, 2, 3], [2, 0, -1], [3, 1, 0], [0, 1, 2]])
    weights = np.where(ids < 0, -np.inf, 9.0 - np.arange(3))
    left = remove_nodes(KnnGraph(ids, weights), [2])
    np.testing.assert_array_equal(left.ids, [[1, 2, -1], [0, -1, -1], [0, 1, -1]])
    np.testing.assert_array_equal(left.weights[0], [9, 7, -np.inf])
    assert len(remove_nodes(left, [0, 1, 2])) == 0
    with pytest.raises(ArrayError, match="rows 0 to 2"):
        remove_nodes(left, [3])


class Flat:
    """A searcher over faiss, exact or not."""

    def __init__(self, index, vectors, width=None):
        self.index, self.width = index, width
        index.train(vectors)
        index.add(vectors)

    def search(self, queries, k):
        scores, ids = self.index.search(queries, self.width or k)
        return Ranking(ids, np.where(ids < 0, -np.inf, scores))


@pytest.mark.usefixtures("small_blocks")
def test_a_searcher_gives_the_same_graph():
    vectors = unit(np.random.default_rng(5), 60)
    graph = build_knn_graph(vectors, 5, Flat(faiss.IndexFlatIP(16), vectors))
    np.testing.assert_array_equal(graph.ids, build_knn_graph(vectors, 5).ids)
    narrow = build_knn_graph(vectors, 5, Flat(faiss.IndexFlatIP(16), vectors, 3))
    np.testing.assert_array_equal(narrow.ids[:, :2], graph.ids[:, :2])
    assert (narrow.ids[:, 2:] == -1).all()


def test_an_approximate_searcher_finds_most_neighbours():
    vectors = unit(np.random.default_rng(6), 1500, 8)
    index = faiss.index_factory(8, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = 8
    graph, exact = build_knn_graph(vectors, 10, Flat(index, vectors)), build_knn_graph(vectors, 10)
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(graph.ids, exact.ids, strict=True)])
    assert recall > 0.9
    assert (graph.ids != np.arange(1500)[:, None]).all()


def test_a_searcher_over_another_collection_is_refused():
    vectors = unit(np.random.default_rng(7), 30)
    with pytest.raises(ArrayError, match="index the same vectors"):
        build_knn_graph(vectors[:20], 3, Flat(faiss.IndexFlatIP(16), vectors))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: build_knn_graph(x, 0), "k must be at least 1"),
        (lambda x: build_knn_graph(x[0], 1), "expected"),
        (lambda _: build_knn_graph(np.full((3, 2), np.nan), 1), "row 0 of vectors holds NaN or infinity"),
        (lambda x: neighbours(x[:, :3], x, 1), "they must agree"),
        (lambda x: add_nodes(build_knn_graph(x, 1), x[:3]), "fewer than"),
        (lambda x: add_nodes(KnnGraph([[5]], [[1.0]]), x), "names neighbour 5"),
        (lambda x: remove_nodes(build_knn_graph(x, 9), [0], x), "expected the 9 nodes"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UsageError, match=message):
        call(unit(np.random.default_rng(8), 10))


def test_symmetries_of_a_graph_by_hand():
    graph = KnnGraph([[1, 2], [2, 0], [0, -1], [1, -1]], [[5.0, 1], [4, 3], [2, -np.inf], [7, -np.inf]])
    expected = {
        None: [[(1, 5), (2, 1)], [(2, 4), (0, 3)], [(0, 2)], [(1, 7)]],
        "max": [[(1, 5), (2, 2)], [(2, 4), (0, 5), (3, 7)], [(0, 2), (1, 4)], [(1, 7)]],
        "union": [[(1, 5), (2, 1)], [(2, 4), (0, 3), (3, 7)], [(0, 2), (1, 4)], [(1, 7)]],
        "mutual": [[(1, 3), (2, 1)], [(0, 3)], [(0, 1)], []],
        "last": [[(1, 5), (2, 1), (2, 2)], [(2, 4), (0, 3), (3, 7)], [(0, 2), (1, 4)], [(1, 7)]],
    }
    for how, lists in expected.items():
        edges = adjacency(graph, how)
        for node, wanted in enumerate(lists):
            assert list(zip(*(part.tolist() for part in edges.neighbours_of(node)), strict=True)) == wanted, how
    dense = adjacency(graph, "max").matrix().toarray()
    np.testing.assert_array_equal(dense, dense.T)


@pytest.mark.parametrize("ids", [[[1, 1], [0, -1]], [[0, 1], [0, -1]]])
def test_lists_that_repeat_a_node_or_name_themselves_are_refused(ids):
    with pytest.raises(ArrayError, match="node 0 twice, or the node itself"):
        adjacency(KnnGraph(ids, np.where(np.array(ids) < 0, -np.inf, 1.0)))


def test_adjacency_checks_its_parts():
    with pytest.raises(UsageError, match="unknown"):
        adjacency(KnnGraph([[1], [0]], [[1.0], [1.0]]), "min")
    for starts, ids, weights, message in [
        ([0, 2, 1], [0], [1.0], "must rise"),
        ([], [], [], "must rise"),
        ([0, 1], [4], [1.0], "1 nodes"),
        ([0, 1], [0], [np.nan], "NaN"),
        ([0, 1], [0], [1.0, 2.0], "shape"),
    ]:
        with pytest.raises(ArrayError, match=message):
            Adjacency(np.array(starts, np.int64), np.array(ids, np.int64), np.array(weights))
