"""Explore-exploit traversal against the published program's rankings and against a plain loop."""

import heapq
from pathlib import Path

import numpy as np
import pytest

from resight.graph.adjacency import adjacency
from resight.graph.knn_graph import build_knn_graph, cut, neighbours
from resight.graph.traversal import explore, explore_exploit, read_prebuild, semi_supervised
from resight.ranking.expansion import average_expansion, database_augmentation
from resight.types import KnnGraph

REFERENCE = Path(__file__).parents[2] / "../shared/reference"
SMALL = [(5, 0.4, 100), (10, 0.5, 200), (10, 2.0, 100)]


@pytest.fixture(scope="module")
def egt():
    if not (REFERENCE / "egt.npz").exists():
        pytest.skip("the reference cases are not here")
    return np.load(REFERENCE / "egt.npz")


def graphs(egt, name, queries, tmp_path):
    path = tmp_path / "prebuild.txt"
    path.write_text(str(egt[f"{name}_prebuild_text"]), encoding="utf-8")
    return read_prebuild(path, queries)


@pytest.mark.parametrize(("k", "threshold", "limit"), SMALL)
def test_rankings_of_the_published_program(egt, tmp_path, k, threshold, limit):
    query_graph, graph = graphs(egt, "small", 20, tmp_path)
    ranking = explore_exploit(cut(query_graph, k), cut(graph, k), threshold, limit, symmetrise="last")
    np.testing.assert_array_equal(ranking.ids, egt[f"small_qe0_k{k}_t{threshold}_p{limit}"])


@pytest.mark.parametrize(
    ("name", "threshold", "k", "expected"),
    [
        ("hand", 0.45, None, "hand_t0.45"),
        ("hand", 0.45, 2, "hand_k2_t0.45"),
        ("hand", 0.65, None, "hand_t0.65"),
        ("tie", 0.5, None, "tie_t0.5"),
    ],
)
def test_small_cases_of_the_published_program(egt, tmp_path, name, threshold, k, expected):
    query_graph, graph = graphs(egt, name, 1, tmp_path)
    if k is not None:
        query_graph, graph = cut(query_graph, k), cut(graph, k)
    ranking = explore_exploit(query_graph, graph, threshold, 100, symmetrise="last")
    np.testing.assert_array_equal(ranking.ids[0][: ranking.lengths[0]] + 1, egt[expected])


def test_semi_supervised_rankings_of_the_published_program(egt, tmp_path):
    query_graph, graph = graphs(egt, "small", 20, tmp_path)
    none = np.full(20, -1), np.full(600, -1)
    ranking = semi_supervised(cut(query_graph, 10), cut(graph, 10), *none, 0.5, 40, symmetrise="last")
    np.testing.assert_array_equal(ranking.ids, egt["SEMI_small_qe0_k10_t0.5_p40"])


@pytest.mark.parametrize(("k", "threshold", "limit"), SMALL)
def test_rankings_after_expansion_and_augmentation(egt, k, threshold, limit):
    """The text of these cases is not at hand: the graph is computed here, and rounded as the text would be."""
    data = np.load(REFERENCE / "data_small.npz")
    queries, vectors = average_expansion(data["Q"], data["X"], 2), database_augmentation(data["X"], 2, count_self=True)
    rounded = [
        KnnGraph(graph.ids, np.round(graph.weights.astype(np.float64), 3))
        for graph in (neighbours(queries, vectors, k), build_knn_graph(vectors, k))
    ]
    ranking = explore_exploit(*rounded, threshold, limit, symmetrise="last")
    np.testing.assert_array_equal(ranking.ids, egt[f"small_qe1_k{k}_t{threshold}_p{limit}"])


def plain_traversal(first, lists, threshold, limit):
    """Rows in the order in which they are taken; `first` and `lists` hold (row, weight) pairs."""
    queue, best, taken, fresh, pushed = [], {}, [], [first], 0
    while len(taken) < limit:
        for edges in fresh:
            for row, weight in edges:
                if row not in taken and weight > best.get(row, -np.inf):
                    heapq.heappush(queue, (-weight, pushed, row))
                    best[row], pushed = weight, pushed + 1
        fresh = []
        if not queue:
            break
        while True:
            row = heapq.heappop(queue)[2]
            if row not in taken:
                taken.append(row)
                fresh.append(lists[row])
            if len(taken) >= limit or not queue or -queue[0][0] <= threshold:
                break
    return taken


def plain_symmetry(ids, weights, how):
    lists = [dict(zip(i.tolist(), w.tolist(), strict=True)) for i, w in zip(ids, weights, strict=True)]
    result = [dict(edges) for edges in lists]
    for node, edges in enumerate(lists):
        for other, weight in edges.items():
            if how == "mutual" and node not in lists[other]:
                del result[node][other]
            elif how == "mutual":
                result[node][other] = min(weight, lists[other][node])
            elif node not in lists[other]:
                result[other][node] = weight
            elif how == "max":
                result[other][node] = max(weight, lists[other][node])
    return [list(edges.items()) for edges in result]


def random_graph(rng, nodes, k, levels):
    ids = np.stack([rng.permutation(np.delete(np.arange(nodes), n))[:k] for n in range(nodes)])
    return KnnGraph(ids, -np.sort(-rng.integers(0, levels, ids.shape), axis=1).astype(np.float32))


@pytest.mark.parametrize("how", ["max", "union", "mutual"])
@pytest.mark.parametrize("seed", range(4))
def test_symmetry_and_traversal_against_plain_loops(how, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, 40, 4, [3, 100, 8, 50][seed])
    expected = plain_symmetry(graph.ids, graph.weights, how)
    edges = adjacency(graph, how)
    for node, wanted in enumerate(expected):
        ids, weights = edges.neighbours_of(node)
        assert list(zip(ids.tolist(), weights.tolist(), strict=True)) == wanted
    queries = KnnGraph(graph.ids[:7], graph.weights[:7])
    for threshold, limit in ((-1, 40), (2, 10), (4.0, 25), (1000, 40)):
        ranking = explore(queries, graph, threshold, limit, how).ranking
        for q in range(7):
            first = list(zip(queries.ids[q].tolist(), queries.weights[q].tolist(), strict=True))
            got = ranking.ids[q][ranking.ids[q] >= 0].tolist()
            assert got == plain_traversal(first, expected, threshold, limit)


@pytest.mark.parametrize("seed", range(6))
def test_edges_that_cannot_matter_are_left_out_and_nothing_else(seed):
    """Dense graphs and low limits, where most edges are weaker than what already waits."""
    graph = random_graph(np.random.default_rng(seed), 80, 12, [5, 30, 1000][seed % 3])
    lists = plain_symmetry(graph.ids, graph.weights, "max")
    queries = KnnGraph(graph.ids[:4], graph.weights[:4])
    for threshold in (-1, 2, 20, 900, 2000):
        for limit in (1, 3, 5, 9, 20):
            ranking = explore_exploit(queries, graph, threshold, limit)
            for q in range(4):
                first = list(zip(queries.ids[q].tolist(), queries.weights[q].tolist(), strict=True))
                assert ranking.ids[q].tolist() == plain_traversal(first, lists, threshold, limit)
