"""Explore-exploit traversal: evidence, limits, disconnected graphs, labels, look-ups, text form."""

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.graph.adjacency import adjacency
from resight.graph.labels import majority_labels, nearest_of_class, united_labels, verified_labels
from resight.graph.traversal import (
    explore,
    explore_exploit,
    explore_online,
    read_prebuild,
    semi_supervised,
    write_prebuild,
)
from resight.types import KnnGraph


def lists(*rows):
    """A graph from lists of (row, weight)."""
    width = max(map(len, rows))
    ids, weights = np.full((len(rows), width), -1), np.full((len(rows), width), -np.inf)
    for n, row in enumerate(rows):
        for slot, (other, weight) in enumerate(row):
            ids[n, slot], weights[n, slot] = other, weight
    return KnnGraph(ids, weights)


# 0 - 1 - 2 is a chain of strong edges; 3 hangs weakly on 0; 4 and 5 know each other only.
CHAIN = lists([(1, 0.9), (3, 0.2)], [(2, 0.8), (0, 0.9)], [(1, 0.8)], [(0, 0.2)], [(5, 0.9)], [(4, 0.9)])
QUERY = lists([(0, 0.7), (3, 0.6)])
LABELS = [0], [0] * 6, 0.5, 5  # of the query and of the photos; threshold and limit


def test_order_scores_and_path():
    found = explore(QUERY, CHAIN, threshold=0.65, limit=10)
    np.testing.assert_array_equal(found.ranking.ids, [[0, 1, 2, 3, -1, -1]])
    np.testing.assert_allclose(found.ranking.scores[0, :4], [0.7, 0.7, 0.7, 0.6])
    assert found.path(0, 2) == [0, 1, 2]
    assert found.path(0, 3) == [3]
    assert found.lookups.tolist() == [4]
    with pytest.raises(UsageError, match="row 4 is no result"):
        found.path(0, 4)
    with pytest.raises(UsageError, match="no query 1"):
        found.path(1, 0)


def test_threshold_decides_between_near_and_strong():
    assert explore_exploit(QUERY, CHAIN, 0.1, 4).ids[0].tolist() == [0, 3, 1, 2]
    assert explore_exploit(QUERY, CHAIN, 2.0, 4).ids[0].tolist() == [0, 1, 2, 3]
    assert explore_exploit(QUERY, CHAIN, 0.6, 4).ids[0].tolist() == [0, 1, 2, 3], "the threshold itself is not exceeded"
    assert explore_exploit(QUERY, CHAIN, -np.inf, 4).ids[0].tolist() == [0, 3, 1, 2]


def test_limits_and_lists_that_end():
    assert explore_exploit(QUERY, CHAIN, 2.0, 2).ids.tolist() == [[0, 1]]
    found = explore(QUERY, CHAIN, 2.0, 1)
    assert (found.lookups[0], found.rounds[0]) == (0, 1)
    empty = KnnGraph(np.full((1, 3), -1), np.full((1, 3), -np.inf))
    assert explore_exploit(empty, CHAIN, 0.5, 3).ids.tolist() == [[-1, -1, -1]]
    alone = KnnGraph(np.empty((1, 0), np.int32), np.empty((1, 0)))
    assert explore_exploit(lists([(0, 1.0)]), alone, 0.5, 3).ids.tolist() == [[0]]


def test_prepared_graph_gives_the_same():
    for how in ("max", "last", None):
        expected = explore_exploit(QUERY, CHAIN, 0.3, 6, how)
        np.testing.assert_array_equal(explore_exploit(QUERY, adjacency(CHAIN, how), 0.3, 6).ids, expected.ids)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explore_exploit(QUERY, CHAIN, 0.5, 0), "limit must be at least 1"),
        (lambda: explore_exploit(QUERY, CHAIN, np.nan, 5), "NaN"),
        (lambda: explore_exploit(lists([(6, 1.0)]), CHAIN, 0.5, 5), "neighbour 6"),
        (lambda: explore_exploit(QUERY, lists([(3, 1.0)]), 0.5, 5), "1 nodes but names neighbour 3"),
        (lambda: explore_online(QUERY, lambda _: CHAIN, 0.5, 5), "6 lists for 2 rows"),
        (lambda: semi_supervised(QUERY, CHAIN, [0], [0] * 5, 0.5, 5), "6 nodes, but there are 5 index labels"),
        (lambda: semi_supervised(QUERY, CHAIN, [0, 1], [0] * 6, 0.5, 5), "query_labels has shape"),
        (lambda: semi_supervised(QUERY, CHAIN, [0], [-2] * 6, 0.5, 5), "labels start at 0"),
        (lambda: semi_supervised(QUERY, CHAIN, [0], [0] * 6, 0.5, 5, bridges=[0]), "training photo 0"),
        (lambda: semi_supervised(QUERY, CHAIN, [0], [0] * 6, 0.5, 5, index_votes=[np.nan] * 6), "NaN"),
        (lambda: semi_supervised(QUERY, adjacency(CHAIN), *LABELS, symmetrise="last"), "pass the KnnGraph itself"),
        (lambda: semi_supervised(lists([(6, 1.0)]), CHAIN, *LABELS, symmetrise="last"), "neighbour 6"),
        (lambda: semi_supervised(QUERY, lists(*[[(0, 1.0)]] * 6), *LABELS, symmetrise="last"), "or the node itself"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def random_graph(rng, nodes, k):
    ids = np.stack([rng.permutation(np.delete(np.arange(nodes), n))[:k] for n in range(nodes)])
    return KnnGraph(ids, -np.sort(-rng.integers(0, 6, ids.shape), axis=1).astype(np.float32))


@pytest.mark.parametrize(("threshold", "limit"), [(-1, 60), (2, 30), (4, 59), (9, 12)])
def test_look_ups_elsewhere_give_the_same_exploration(threshold, limit):
    graph = random_graph(np.random.default_rng(3), 60, 3)
    queries = KnnGraph(graph.ids[:9], graph.weights[:9])
    asked = []

    def look_up(rows):
        asked.append(rows)
        return KnnGraph(graph.ids[rows], graph.weights[rows])

    there, here = explore_online(queries, look_up, threshold, limit), explore(queries, graph, threshold, limit, None)
    width = there.ranking.ids.shape[1]
    np.testing.assert_array_equal(there.ranking.ids, here.ranking.ids[:, :width])
    assert (here.ranking.ids[:, width:] == -1).all()
    np.testing.assert_array_equal(there.ranking.scores, here.ranking.scores[:, :width])
    np.testing.assert_array_equal(there.sources, here.sources[:, :width])
    np.testing.assert_array_equal(there.lookups, here.lookups)
    np.testing.assert_array_equal(there.rounds, here.rounds)
    assert sum(map(len, asked)) == there.lookups.sum()
    assert (there.lookups <= limit).all()


def test_majority_needs_more_than_half():
    near = lists(
        [(0, 0.9), (1, 0.8), (2, 0.7)],
        [(0, 0.9), (2, 0.8), (3, 0.7)],
        [(2, 0.6), (3, 0.5), (1, 0.4)],
        [(4, 0.6), (5, 0.5), (0, 0.4)],
        [(0, 0.3)],
    )
    training = [5, 5, 7, 7, -1, -1]
    labels, votes = majority_labels(near, training, 3)
    assert labels.tolist() == [5, 7, 7, -1, -1]
    np.testing.assert_allclose(votes, [0.9, 0.8, 0.6, -np.inf, -np.inf])
    assert majority_labels(near, training, 2)[0].tolist() == [5, -1, 7, -1, -1], "one of two is a tie"
    assert nearest_of_class(near, training, [7, 5, 7, 5, -1]).tolist() == [2, 0, 2, 0, -1]
    with pytest.raises(UsageError, match="4 of 3"):
        majority_labels(near, training, 4)
    with pytest.raises(ArrayError, match="training photo 5"):
        majority_labels(near, training[:5], 3)


def test_a_query_goes_to_the_photos_of_its_label_first():
    labels = [-1, -1, -1, -1, 8, 8]
    found = semi_supervised(QUERY, CHAIN, [8], labels, 0.65, 6, index_votes=[0, 0, 0, 0, 0.1, 0.2])
    assert found.ids.tolist() == [[5, 4, 0, 1, 2, 3]]
    found = semi_supervised(QUERY, CHAIN, [8], labels, 0.65, 6)
    assert found.ids.tolist() == [[4, 5, 0, 1, 2, 3]]
    for label in (-1, 9):
        found = semi_supervised(QUERY, CHAIN, [label], labels, 0.65, 6)
        assert found.ids.tolist() == [[0, 1, 2, 3, -1, -1]], "the component ends: a short list"


def test_training_photos_are_traversed_and_never_returned():
    # Row 6 is a training photo of label 8 that only photo 2 knows; the photos of label 8 are 4 and 5.
    rows = [[(1, 0.9), (3, 0.2)], [(2, 0.8)], [(6, 0.75)], [], [], [], []]
    graph, labels = lists(*rows), [-1, -1, -1, -1, 8, 8]
    found = semi_supervised(QUERY, graph, [-1], labels, 0.65, 9, training_labels=[8])
    assert found.ids.tolist() == [[0, 1, 2, 4, 5, 3]]
    bridged = semi_supervised(QUERY, graph, [8], labels, 0.65, 9, training_labels=[8], bridges=[0])
    assert bridged.ids.tolist() == [[0, 4, 5, 1, 2, 3]], "its photos follow the first round"
    far = semi_supervised(lists([(3, 0.5)]), lists([], [], [], [], [], [], []), [8], labels, 2.0, 9,
                          training_labels=[8], bridges=[0])  # fmt: skip
    assert far.ids[0].tolist() == [4, 5, 3, -1, -1, -1]


def test_what_geometry_proves_votes_too_and_conflicts_keep_both_labels():
    training = [5, 5, 7, 7, 9]
    listed = [[2, 0, 3], [4, 0, -1], [-1, -1, -1], [0, 1, -1]]
    similarity = np.array([[0.2, 0.9, 0.4], [0.3, 0.1, -np.inf], [-np.inf] * 3, [0.5, 0.6, -np.inf]], np.float32)
    labels, votes = verified_labels(listed, training, similarity)
    assert labels.tolist() == [7, 9, -1, 5], "of one vote each, the label with the most inliers"
    np.testing.assert_allclose(votes, [0.4, 0.3, -np.inf, 0.6])
    both, strengths = united_labels([5, 9, 7, 5], [0.8, 0.2, 0.7, 0.9], labels, votes)
    assert both.tolist() == [[5, 7], [9, -1], [7, -1], [5, -1]]
    np.testing.assert_allclose(strengths, [[0.8, 0.4], [0.3, -np.inf], [0.7, -np.inf], [0.9, -np.inf]])
    assert united_labels([-1], [-np.inf], [3], [0.5])[0].tolist() == [[-1, 3]]
    near = lists([(0, 0.9), (2, 0.8)])
    assert nearest_of_class(near, training, [[7, 5]]).tolist() == [[2, 0]]
    assert verified_labels(np.empty((2, 0), np.int64), training, np.empty((2, 0)))[0].tolist() == [-1, -1]
    with pytest.raises(ArrayError, match="training photo 5"):
        verified_labels([[5]], training, [[0.5]])


def test_a_photo_of_two_labels_is_reached_by_both_and_a_query_of_two_by_the_best_votes():
    alone = lists(*[[]] * 5)
    nowhere = KnnGraph(np.full((3, 1), -1), np.full((3, 1), -np.inf))
    labels, votes = [[1, -1], [1, 2], [2, -1], [-1, -1], [2, 2]], [[0.5, 0], [0.4, 0.9], [0.7, 0], [0, 0], [0.1, 0.2]]
    found = semi_supervised(nowhere, alone, [[1, -1], [2, -1], [2, 1]], labels, 0.5, 9, index_votes=votes)
    assert found.ids.tolist() == [[0, 1, -1, -1, -1], [1, 2, 4, -1, -1], [1, 2, 0, 4, -1]]
    single = semi_supervised(nowhere, alone, [[2, 2], [3, -1], [3, 1]], labels, 0.5, 9, index_votes=votes)
    assert single.ids.tolist() == [[1, 2, 4, -1, -1], [-1] * 5, [0, 1, -1, -1, -1]]
    bridged = semi_supervised(nowhere, lists(*[[]] * 7), [[1, -1], [2, -1], [2, 1]], labels, 0.5, 9, index_votes=votes,
                              training_labels=[1, 2], bridges=[[0, -1], [1, -1], [1, 0]])  # fmt: skip
    assert [set(row.tolist()) - {-1} for row in bridged.ids] == [{0, 1}, {1, 2, 4}, {0, 1, 2, 4}]


def test_prebuild_text_is_read_back(tmp_path):
    path = tmp_path / "graph.txt"
    write_prebuild(path, QUERY, CHAIN)
    assert path.read_text().splitlines()[:2] == ["0,1 0.700 4 0.600 ", "1,2 0.900 4 0.200 "]
    queries, graph = read_prebuild(path, 1)
    np.testing.assert_array_equal(queries.ids, QUERY.ids)
    np.testing.assert_array_equal(graph.ids, CHAIN.ids)
    np.testing.assert_allclose(graph.weights, CHAIN.weights)
    write_prebuild(path, QUERY, KnnGraph(CHAIN.ids, np.round(CHAIN.weights * 50)), decimals=0)
    assert path.read_text().splitlines()[1] == "1,2 45 4 10 "


@pytest.mark.parametrize(
    ("text", "queries", "message"),
    [
        ("0,1 0.5\n2,0 0.5\n", 0, "line 2: starts with '2'"),
        ("0 1 0.5\n", 0, "line 1"),
        ("0,1\n1,0 0.5\n", 0, "has 1 fields"),
        ("0,1 x\n1,0 0.5\n", 0, "line 1.*pairs of id and weight"),
        ("0,1 nan\n1,0 0.5\n", 0, "not finite"),
        ("0,2 0.5\n1,0 0.5\n", 0, "outside 0 to 1"),
        ("0,1 0.5\n1,0 0.5\n", 1, "outside 1 to 1"),
        ("0,-1 0.5\n1,0 0.5\n", 0, "outside 0 to 1"),
        ("0,99999999999999999999 0.5\n", 0, "line 1"),
        ("0,1 0.5\n", 2, "queries=2 is outside"),
    ],
)
def test_damaged_prebuild_text_is_named(tmp_path, text, queries, message):
    path = tmp_path / "graph.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_prebuild(path, queries)
    with pytest.raises(UsageError, match="is not there"):
        read_prebuild(tmp_path / "none.txt", 0)
    with pytest.raises(UsageError, match="decimals"):
        write_prebuild(path, QUERY, CHAIN, decimals=-1)
