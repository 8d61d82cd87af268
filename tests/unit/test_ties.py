"""Near-equal scores are ties, and ties rank by row: wherever a list is cut or ordered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.evaluation.streaming import rank_blocks
from resight.graph import knn_graph
from resight.graph.diffusion import ranked
from resight.graph.knn_graph import add_nodes, build_knn_graph, neighbours, remove_nodes
from resight.index import asmk_scoring
from resight.index.approximate import ApproximateIndex
from resight.index.exact import ExactIndex
from resight.products import lengths, pair_products
from resight.ranking.pipeline import reorder
from resight.ties import SLACK, TOLERANCE, nearest, tie_order
from tie_free import tie_free

NOISE = 2.5e-7  # either way: more than the rounding of vectors does to similarities near 1


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def copies(count, others, dim=64, seed=0):
    """Unit vectors of which `count`, at random rows, are one vector up to the last bits; and these rows, ascending."""
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(count + others, dim)))
    rows = np.sort(rng.permutation(count + others)[:count])
    vectors[rows] = vectors[rows[0]] * (1 + rng.uniform(-NOISE, NOISE, (count, 1)))
    return vectors, rows


def test_scores_within_the_tolerance_of_the_best_rank_by_row():
    scores = [0.9, 0.9 + 4e-7, 0.5, 0.9 - 4e-7, 0.9 - 3e-6]
    order, levels = tie_order([7, 9, 1, 2, 0], scores, 1.0)
    assert order.tolist() == [3, 0, 1, 4, 2]
    assert levels.tolist() == [scores[1]] * 3 + [scores[4], scores[2]], "a tie gets its best score"
    assert tie_order(np.arange(3), [1.0, 1 + 8e-7, 1 + 16e-7])[0].tolist() == [1, 2, 0], "a run has one best"
    assert tie_order([3, 1], [5e-8, 0.0])[0].tolist() == [0, 1], "relative to the score without a scale"
    assert tie_order([3, 1], [5e-8, 0.0], 1.0)[0].tolist() == [1, 0]
    assert tie_order([-1, 4, 2, 5], [-np.inf, np.inf, np.inf, 3])[0].tolist() == [2, 1, 3, 0]
    assert [part.shape for part in tie_order(np.zeros((2, 0)), np.zeros((2, 0)))] == [(2, 0), (2, 0)]
    assert tie_order([2, 1], [3, 3])[0].tolist() == [1, 0], "whole numbers too"


@given(st.integers(0, 2**32 - 1))
def test_noise_never_changes_an_order_of_ties(seed):
    rng = np.random.default_rng(seed)
    clean = rng.choice(rng.permutation(2000)[:12] / 1000 - 1, (3, 40))
    rows = rng.permutation(40)
    noisy = clean + rng.uniform(-NOISE, NOISE, clean.shape)
    order, levels = tie_order(rows, noisy, 1.0)
    assert np.array_equal(order, np.lexsort((np.tile(rows, (3, 1)), -clean), axis=1))
    assert (np.diff(levels, axis=1) <= 0).all()
    assert np.abs(levels - np.take_along_axis(noisy, order, 1)).max() <= TOLERANCE
    again, same = tie_order(rows[order], levels, 1.0)
    assert (again == np.arange(40)).all(), "ordering twice is ordering once"
    assert np.array_equal(same, levels)


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 300))
def test_a_tie_at_the_cut_is_decided_by_row_however_long(seed, size, k):
    rng = np.random.default_rng(seed)
    clean = np.where(np.arange(300) < size, 0.5, rng.choice([0.1, 0.7], 300))[rng.permutation(300)]
    noisy = (clean + rng.uniform(-NOISE, NOISE, (4, 300))).astype(np.float32)

    def candidates(which, m):
        blurred = noisy[which] + rng.uniform(-NOISE, NOISE, (len(which), 300))
        found = np.argsort(-blurred, axis=1)[:, :m]
        return found, np.take_along_axis(noisy[which], found, 1)

    rows, scores, levels = nearest(candidates, 4, k, 300, 1.0)
    assert (rows == np.lexsort((np.arange(300), -clean))[:k]).all()
    assert np.array_equal(scores, np.take_along_axis(noisy, rows, 1))
    assert (np.diff(levels, axis=1) <= 0).all()


@pytest.mark.parametrize("count", [3, 10 + SLACK + 40])
def test_every_index_ranks_copies_by_row(count):
    vectors, rows = copies(count, 200)
    indexes = (
        ExactIndex.over(vectors),
        ExactIndex.over(vectors, half=True),
        ApproximateIndex.over(vectors, half=False),
        ApproximateIndex.over(vectors),
    )
    k = min(count, 10)
    for index in indexes:
        found = index.search(vectors[rows[:2]], k)
        assert found.ids.tolist() == [rows[:k].tolist()] * 2
        assert (found.scores == found.scores[:, :1]).all(), "a tie has one score"
        allowed = rows[1::2]
        assert index.search(vectors[rows[:1]], k, allowed).ids[0, : len(allowed)].tolist() == allowed[:k].tolist()
    assert neighbours(vectors[rows[:2]], vectors, k).ids.tolist() == [rows[:k].tolist()] * 2


@pytest.mark.parametrize("block", [7, 2048])
@pytest.mark.parametrize("count", [4, 60])
def test_a_graph_of_copies_is_by_row_and_grows_and_shrinks_to_the_same(count, block, monkeypatch):
    monkeypatch.setattr(knn_graph, "BLOCK", block)
    vectors, rows = copies(count, 80)
    graph, k = build_knn_graph(vectors, 5), min(5, count - 1)
    for row in rows:
        assert graph.ids[row, :k].tolist() == rows[rows != row][:k].tolist()
    for start in (1, 50, len(vectors) - 1):
        grown = add_nodes(build_knn_graph(vectors[:start], 5), vectors)
        assert np.array_equal(grown.ids, graph.ids)
        assert np.array_equal(grown.weights, graph.weights), "to the last bit"
    gone = rows[:2]
    stays = np.delete(vectors, gone, axis=0)
    left, built = remove_nodes(graph, gone, stays), build_knn_graph(stays, 5)
    assert np.array_equal(left.ids, built.ids)
    assert np.array_equal(left.weights, built.weights)
    listed = {
        (node, near): w
        for node in range(len(graph))
        for near, w in zip(graph.ids[node], graph.weights[node], strict=True)
    }
    assert all(weight == listed.get((near, node), weight) for (node, near), weight in listed.items()), (
        "one weight per pair"
    )


def test_streamed_blocks_local_features_and_stages_follow_the_rule():
    vectors, rows = copies(12, 60)
    blocks = [vectors[start : start + 25] for start in range(0, 72, 25)]
    for k in (None, 5, 12):
        found = rank_blocks(vectors[rows[:1]], blocks, k).ids[0]
        assert found[:12].tolist() == rows[:k].tolist()
    noise = np.random.default_rng(1).uniform(-NOISE, NOISE, 80)
    scores = np.where(np.arange(80) % 2, 0.3, 0.2) * (1 + noise)
    odd = np.arange(1, 80, 2).tolist()
    for k in (5, 30, 80):
        columns, values = asmk_scoring.best([scores[None].astype(np.float32)], [np.arange(80)], 1, k)
        assert columns[0].tolist() == (odd + np.arange(0, 80, 2).tolist())[:k]
        assert len(set(values[0].tolist())) == 1 + (k > 40)
    assert ranked(scores[None], 40).ids[0].tolist() == odd
    shuffled = np.random.default_rng(2).permutation(80)
    assert reorder(shuffled, scores[shuffled])[0].tolist()[:40] == odd
    assert reorder([3, 1], [0.5, 0.5 + 1e-7], ties=False)[0].tolist() == [1, 3]
    assert reorder([3, 1], [0.5 + 1e-7, 0.5], ties=False)[0].tolist() == [3, 1]


def test_products_of_pairs_are_the_same_in_any_company():
    rng = np.random.default_rng(3)
    vectors = unit(rng.normal(size=(50, 333)))
    places = rng.integers(-1, 50, (50, 7))
    products = pair_products(vectors, vectors, places)
    exact = np.einsum("qd,qmd->qm", vectors.astype(np.float64), vectors[places].astype(np.float64))
    assert (products[places < 0] == -np.inf).all()
    assert np.array_equal(products[places >= 0], exact.astype(np.float32)[places >= 0])
    assert np.array_equal(pair_products(vectors[4:5], vectors, places[4:5])[0], products[4])
    known = np.where(places % 2, np.float32(9), np.float32(np.nan))
    assert np.array_equal(pair_products(vectors, vectors, places, known) == 9, (places % 2 == 1) & (places >= 0))
    np.testing.assert_allclose(lengths(vectors.astype(np.float16)), 1, atol=1e-3)


def test_lists_without_ties_are_told():
    assert tie_free([[0.1, 0.2, 0.3], [0.1, 0.2, 0.2 + 1e-7], [-np.inf, -np.inf, 0.1]]).tolist() == [True, False, True]
    assert tie_free([[1e-8, 2e-8]], 1.0).tolist() == [False]
