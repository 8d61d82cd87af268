from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import ArrayError, UsageError
from resight.graph.knn_graph import build_knn_graph
from resight.graph.searched import add_searched, build_searched_graph, remove_searched, sampled_recall
from resight.graph.top_k import offer_pairs, second_neighbours
from resight.index import refined
from resight.index.refined import RefinedIndex

DIM, COUNT, K = 48, 3000, 10


def clustered(count, seed=0):
    centres = np.random.default_rng(99).standard_normal((40, DIM))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, 40, count)] + 0.8 * rng.standard_normal((count, DIM))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    return rows.astype(np.float32)


def indexed(path, rows, vectors, lists=True):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refined, "TRAIN_FROM", 500 if lists else 10**9)
        index = RefinedIndex(DIM, path / f"{len(rows)}-{lists}.f16", recall=0.995, k=K)
        index.add(rows, vectors)
    return index


def agreement(graph, truth):
    return np.mean([np.isin(a, b).mean() for a, b in zip(truth.ids, graph.ids, strict=True)])


def test_without_lists_the_graph_is_the_exact_one(tmp_path):
    vectors, rows = clustered(700), np.arange(0, 1400, 2)
    graph = build_searched_graph(indexed(tmp_path, rows, vectors, lists=False), rows, K)
    exact = build_knn_graph(vectors, K)
    assert graph.ids.tolist() == exact.ids.tolist()
    assert graph.weights.tolist() == exact.weights.tolist()
    assert graph.ids.dtype == np.int32


def test_the_recall_is_that_against_all_pairs(tmp_path):
    vectors, rows = clustered(COUNT), np.arange(COUNT)
    index = indexed(tmp_path, rows, vectors)
    graph, exact = build_searched_graph(index, rows, K), build_knn_graph(vectors, K)
    assert agreement(graph, exact) > 0.99
    assert sampled_recall(graph, rows, index) == pytest.approx(agreement(graph, exact), abs=0.01)
    order = np.random.default_rng(0).permutation(COUNT)
    assert build_searched_graph(index, rows, K, order).ids.tolist() == graph.ids.tolist()
    assert not (graph.ids == np.arange(COUNT)[:, None]).any()
    same = graph.ids == exact.ids
    assert (graph.weights[same] == exact.weights[same]).all()


def test_a_grown_graph_is_as_good_as_a_rebuilt_one(tmp_path):
    vectors, rows = clustered(COUNT), np.arange(COUNT) * 3
    index = indexed(tmp_path, rows[:2500], vectors[:2500])
    graph = build_searched_graph(index, rows[:2500], K)
    index.add(rows[2500:], vectors[2500:])
    grown = add_searched(graph, rows, index)
    exact = build_knn_graph(vectors, K)
    assert agreement(grown, exact) > 0.985
    assert agreement(grown, exact) > agreement(build_searched_graph(index, rows, K), exact) - 0.01
    assert (np.diff(grown.weights, axis=1) <= 1e-6).all()
    assert graph.ids.max() < 2500  # what was given is not changed


def test_a_shrunk_graph_is_as_good_as_a_rebuilt_one(tmp_path):
    vectors, rows = clustered(COUNT), np.arange(COUNT)
    index = indexed(tmp_path, rows, vectors)
    graph, gone = build_searched_graph(index, rows, K), np.arange(0, COUNT, 9)
    index.remove(gone)
    kept = np.setdiff1d(rows, gone)
    left = remove_searched(graph, gone, kept, index)
    assert agreement(left, build_knn_graph(vectors[kept], K)) > 0.99
    assert (left.ids >= 0).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(0, 40), st.integers(1, 12), st.integers(0, 99))
def test_growing_and_shrinking_without_lists_give_the_exact_graph(tmp_path_factory, old, new, k, seed):
    rng = np.random.default_rng(seed)
    vectors, rows = clustered(old + new, seed), np.sort(rng.choice(1000, old + new, replace=False))
    index = indexed(tmp_path_factory.mktemp("graph"), rows[:old], vectors[:old], lists=False)
    graph = build_searched_graph(index, rows[:old], k)
    index.add(rows[old:], vectors[old:])
    grown = add_searched(graph, rows, index)
    searched = build_searched_graph(index, rows, k)
    assert grown.ids[old:].tolist() == searched.ids[old:].tolist()
    assert searched.ids.tolist() == build_knn_graph(vectors, k).ids.tolist()
    gone = np.flatnonzero(rng.random(old + new) < 0.3)
    index.remove(rows[gone])
    left = remove_searched(searched, gone, np.delete(rows, gone), index)
    assert left.ids.tolist() == build_knn_graph(np.delete(vectors, gone, 0), k).ids.tolist()


def test_what_does_not_fit_is_refused(tmp_path):
    vectors, rows = clustered(50), np.arange(50)
    index = indexed(tmp_path, rows, vectors, lists=False)
    graph = build_searched_graph(index, rows, 3)
    with pytest.raises(ArrayError, match=r"names row 4\d"):
        build_searched_graph(index, rows[:40], 3)
    with pytest.raises(UsageError, match="k=0"):
        build_searched_graph(index, rows, 0)
    with pytest.raises(ArrayError, match="must rise"):
        build_searched_graph(index, rows[::-1], 3)
    with pytest.raises(ArrayError, match="fewer than the 50 nodes"):
        add_searched(graph, rows[:9], index)
    with pytest.raises(ArrayError, match="50 rows are given for the 49 nodes"):
        remove_searched(graph, [7], rows, index)


def test_what_one_search_misses_is_found_from_the_other_side(tmp_path):
    vectors, rows = clustered(COUNT), np.arange(COUNT)
    index = indexed(tmp_path, rows, vectors)
    index.effort = replace(index.effort, probes=1, refined=K)
    exact = build_knn_graph(vectors, K)
    searched = [np.isin(a, b).mean() for a, b in zip(exact.ids, index.near(rows, K)[0], strict=True)]
    assert 1 - agreement(build_searched_graph(index, rows, K), exact) < 0.65 * (1 - np.mean(searched))


def test_second_neighbours_by_a_plain_loop():
    rng = np.random.default_rng(3)
    lists = np.stack([rng.permutation(40)[:6] for _ in range(40)]).astype(np.int32)
    lists[5, 3:] = -1
    nodes = rng.permutation(40)[:17]
    found = second_neighbours(nodes, lists, 4, np.full(40, -1, np.int64))
    for node, near in zip(nodes, found, strict=True):
        every = {o for n in lists[node, :4] if n >= 0 for o in lists[n, :4] if o >= 0}
        assert sorted(near[near >= 0]) == sorted(every - {node} - set(lists[node].tolist()))


def test_pairs_are_offered_once_to_each_other():
    ids, weights, sizes = np.full((4, 2), -1, np.int32), np.full((4, 2), -np.inf, np.float32), np.zeros(4, np.int64)
    nodes, rows, values = np.array([0, 1, 0, 0]), np.array([1, 0, 2, 3]), np.array([0.5, 0.5, 0.7, 0.6], np.float32)
    offer_pairs(nodes, rows, values, ids, weights, sizes)
    assert [sorted(row[row >= 0].tolist()) for row in ids] == [[2, 3], [0], [0], [0]]
    assert sizes.tolist() == [2, 1, 1, 1]
