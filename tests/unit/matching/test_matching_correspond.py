"""Correspondences against a plain loop, and their edge cases."""

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.matching import correspond as module
from resight.matching.correspond import Correspondences, correspond
from resight.types import LocalFeatures


def features(descriptors):
    descriptors = np.asarray(descriptors, np.float32)
    n = len(descriptors)
    xy = np.stack([np.arange(n), np.zeros(n)], axis=1)
    return LocalFeatures(xy, np.ones(n), np.zeros(n), np.zeros(n), descriptors)


def random_pair(seed, n=40, m=30, dim=8, shared=15):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, dim)), rng.normal(size=(m, dim))
    b[:shared] = a[rng.permutation(n)[:shared]] + 0.1 * rng.normal(size=(shared, dim))
    return features(a), features(b)


def slow(a, b, ratio, mutual, allowed=None):
    """All matches as {(i, j)}, one feature at a time."""
    distance = np.linalg.norm(a.descriptors[:, None].astype(float) - b.descriptors[None], axis=2)
    if allowed is not None:
        distance[~allowed] = np.inf

    def best(row):
        order = np.argsort(row, kind="stable")
        second = row[order[1]] if len(row) > 1 else np.inf
        ok = np.isfinite(row[order[0]]) and (ratio is None or row[order[0]] < ratio * second)
        return order[0], ok

    found = set()
    for i in range(len(a)):
        j, ok = best(distance[i])
        if ok and (not mutual or (best(distance[:, j])[0] == i and best(distance[:, j])[1])):
            found.add((i, int(j)))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [None, 0.8, 1.0])
@pytest.mark.parametrize("mutual", [True, False])
def test_equals_a_plain_loop(seed, ratio, mutual):
    a, b = random_pair(seed)
    got = correspond(a, b, ratio=ratio, mutual=mutual, one_to_one=False)
    assert {tuple(p) for p in got.pairs.tolist()} == slow(a, b, ratio, mutual)
    expected = np.linalg.norm(a.descriptors[got.pairs[:, 0]] - b.descriptors[got.pairs[:, 1]], axis=1)
    np.testing.assert_allclose(got.distance, expected, rtol=1e-4, atol=2e-3)
    assert (np.diff(got.distance) >= 0).all()


def test_blocks_of_rows_change_nothing(monkeypatch):
    a, b = random_pair(9)
    whole = correspond(a, b)
    monkeypatch.setattr(module, "BLOCK_ENTRIES", 70)
    np.testing.assert_array_equal(correspond(a, b).pairs, whole.pairs)
    assert len(whole) >= 10


@pytest.mark.parametrize("ratio", [None, 0.8])
@pytest.mark.parametrize("mutual", [True, False])
def test_words_restrict_the_comparison(ratio, mutual):
    a, b = random_pair(3)
    rng = np.random.default_rng(0)
    a_words = np.stack([rng.permutation(4)[:2] for _ in range(len(a))])
    b_words = rng.integers(0, 4, len(b))
    allowed = (a_words[:, :, None] == b_words).any(axis=1)
    got = correspond(a, b, ratio=ratio, mutual=mutual, one_to_one=False, words=(a_words, b_words))
    assert {tuple(p) for p in got.pairs.tolist()} == slow(a, b, ratio, mutual, allowed)


def test_a_word_given_twice_does_not_fail_the_ratio_test():
    a, b = features([[1, 0]]), features([[1, 0.1], [0, 1]])
    once = correspond(a, b, words=(np.array([[7]]), np.array([7, 8])))
    twice = correspond(a, b, words=(np.array([[7, 7]]), np.array([7, 8])))
    assert once.pairs.tolist() == twice.pairs.tolist() == [[0, 0]]


def test_one_to_one_keeps_the_nearest():
    a, b = features([[1.0, 0.3], [1.0, 0.1], [0, 1]]), features([[1, 0], [0, 1]])
    many = correspond(a, b, ratio=None, mutual=False, one_to_one=False)
    one = correspond(a, b, ratio=None, mutual=False)
    assert sorted(many.pairs.tolist()) == [[0, 0], [1, 0], [2, 1]]
    assert one.pairs.tolist() == [[2, 1], [1, 0]]


def test_ties_go_to_the_lower_row_and_fail_the_ratio_test():
    a, b = features([[1, 0]]), features([[1, 0], [1, 0]])
    assert correspond(a, b, ratio=None).pairs.tolist() == [[0, 0]]
    assert len(correspond(a, b, ratio=1.0)) == 0


def test_max_distance_is_inclusive():
    a, b = features([[0, 0], [9, 0]]), features([[0, 3], [9, 4]])
    assert correspond(a, b, ratio=None, max_distance=3).pairs.tolist() == [[0, 0]]


def test_swapping_the_images_swaps_the_pairs():
    a, b = random_pair(5)
    forth, back = correspond(a, b, ratio=0.9), correspond(b, a, ratio=0.9)
    assert sorted(forth.pairs.tolist()) == sorted(back.pairs[:, ::-1].tolist())


def test_empty_images_give_no_pairs():
    a, empty = features(np.eye(3)), features(np.empty((0, 128)))
    for pair in ((a, empty), (empty, a), (empty, empty)):
        got = correspond(*pair)
        assert got.pairs.shape == (0, 2)
        assert got.pairs.dtype == np.int32
        assert got.distance.dtype == np.float32


def test_errors_say_what_is_wrong():
    a = features(np.eye(3))
    with pytest.raises(ArrayError, match="dimension 3 and 4"):
        correspond(a, features(np.eye(4)))
    for ratio in (0, 1.5, np.nan):
        with pytest.raises(UsageError, match="ratio"):
            correspond(a, a, ratio=ratio)
    with pytest.raises(UsageError, match="max_distance"):
        correspond(a, a, max_distance=-1)
    with pytest.raises(ArrayError, match="words of b"):
        correspond(a, a, words=(np.zeros((3, 1), int), np.zeros(2, int)))
    with pytest.raises(ArrayError, match="distance"):
        Correspondences(np.zeros((2, 2), int), np.zeros(3))
