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


class Heap:
    """A binary heap as in Java's PriorityQueue, whose comparator looks up weights that change while entries wait."""

    def __init__(self, weight_of):
        self.entries, self.weight_of, self.pushed = [], weight_of, 0

    def __len__(self):
        return len(self.entries)

    def before(self, a, b):
        return (-self.weight_of[a[1]], a[0]) < (-self.weight_of[b[1]], b[0])

    def push(self, node):
        self.entries.append((self.pushed, node))
        self.pushed += 1
        at = len(self.entries) - 1
        while at and self.before(self.entries[at], self.entries[(at - 1) // 2]):
            up = (at - 1) // 2
            self.entries[at], self.entries[up] = self.entries[up], self.entries[at]
            at = up

    def pop(self):
        first, last = self.entries[0], self.entries.pop()
        if self.entries:
            self.entries[0] = last
        at = 0
        while 2 * at + 1 < len(self.entries):
            child = 2 * at + 1
            if child + 1 < len(self.entries) and self.before(self.entries[child + 1], self.entries[child]):
                child += 1
            if not self.before(self.entries[child], self.entries[at]):
                break
            self.entries[child], self.entries[at] = self.entries[at], self.entries[child]
            at = child
        return first[1]


def published_symmetry(rows):
    """One reverse edge per row, keyed by the row's own number, over all rows: rows are lists of (number, weight)."""
    maps = [{other: (other, weight) for other, weight in row} for row in rows]
    for i, row in enumerate(rows):
        for other, weight in row:
            known = maps[other].get(i)
            maps[other][other] = (i, weight if known is None else max(weight, known[1]))
    return [list(entries.values()) for entries in maps]


def published_program(rows, query, hidden, threshold, limit):
    """Numbers that one query of the program returns; the first `hidden` rows are never returned."""
    best, explored, taken, fresh = {}, {query}, [], [query]
    heap = Heap(best)
    while len(taken) < limit:
        for node in fresh:
            for other, weight in rows[node]:
                if weight > best.get(other, -np.inf):
                    best[other] = weight
                    heap.push(other)
        fresh = []
        if not len(heap):
            break
        while True:
            node = heap.pop()
            if node >= hidden and node not in taken:
                taken.append(node)
            if node not in explored:
                explored.add(node)
                fresh.append(node)
            if len(taken) >= limit or not len(heap) or best[heap.entries[0][1]] <= threshold:
                break
    return taken


def text_rows(query_graph, graph, query_labels, training_labels, index_labels, votes):
    """Rows of the program's text: queries, training photos, photos; edges of labels before a row's own."""
    queries, training = len(query_graph), len(training_labels)
    photos = len(graph) - training
    number = [queries + training + i for i in range(photos)] + [queries + i for i in range(training)]

    def row(ids, weights, label):
        members = sorted(np.flatnonzero((index_labels == label) & (label >= 0)), key=lambda i: (-votes[i], i))
        edges = [(number[i], 10_000_000 - place) for place, i in enumerate(members)]
        known = {other for other, _ in edges}
        listed = [(number[i], w) for i, w in zip(ids.tolist(), weights.tolist(), strict=True) if i >= 0]
        return edges + [edge for edge in listed if edge[0] not in known]

    rows = [row(*parts) for parts in zip(query_graph.ids, query_graph.weights, query_labels, strict=True)]
    rows += [row(graph.ids[photos + t], graph.weights[photos + t], training_labels[t]) for t in range(training)]
    return rows + [row(graph.ids[i], graph.weights[i], -1) for i in range(photos)]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_semi_supervised_program_with_training_photos(seed, labelled):
    """Rows that only a query or a training photo lists gain their reverse edge from it, and photos come last."""
    rng = np.random.default_rng(seed)
    photos, training, queries = 60, 15, 8
    graph = random_graph(rng, photos + training, 3, 40)
    near = KnnGraph(
        np.stack([rng.permutation(photos + training)[:3] for _ in range(queries)]),
        -np.sort(-rng.integers(0, 40, (queries, 3)), axis=1).astype(np.float32),
    )
    labels = [rng.integers(-1, 4, size) if labelled else np.full(size, -1) for size in (queries, training, photos)]
    labels[2][rng.random(photos) < 0.7] = -1
    votes = rng.integers(0, 3, photos).astype(np.float32)
    rows = published_symmetry(text_rows(near, graph, *labels, votes))
    for threshold, limit in ((5, 20), (25, 40), (1000, 60), (-1, 10)):
        found = semi_supervised(
            near, graph, labels[0], labels[2], threshold, limit,
            index_votes=votes, training_labels=labels[1], symmetrise="last",
        )  # fmt: skip
        for query in range(queries):
            taken = published_program(rows, query, queries + training, threshold, limit)
            expected = [number - queries - training for number in taken]
            assert found.ids[query][: found.lengths[query]].tolist() == expected
