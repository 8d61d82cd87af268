"""Rows that pairs join, directly or through others."""

from __future__ import annotations

import numpy as np
import pytest

from resight.errors import ArrayError
from resight.graph.components import components, groups_of_pairs, members, mutual_groups
from resight.types import KnnGraph


def slow_components(pairs, count):
    """Labels spread along pairs until nothing changes."""
    label = list(range(count))
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            low = min(label[a], label[b])
            changed |= (label[a], label[b]) != (low, low)
            label[a] = label[b] = low
    names = sorted(set(label))
    return [names.index(one) for one in label]


@pytest.mark.parametrize("seed", range(20))
def test_components_are_those_of_a_slow_search(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    pairs = rng.integers(count, size=(int(rng.integers(0, 40)), 2))
    found = components(pairs, count)
    assert (found.dtype, found.tolist()) == (np.int64, slow_components(pairs.tolist(), count))


def test_a_pair_may_be_named_often():
    assert components(np.tile([[0, 2]], (512, 1)), 3).tolist() == [0, 1, 0]  # more than a byte counts
    assert components(np.empty((0, 2), int), 0).tolist() == []


def test_groups_of_pairs():
    assert groups_of_pairs([[1, 4], [4, 6], [0, 3]], 8).tolist() == [0, 1, -1, 0, 1, -1, 1, -1]
    assert groups_of_pairs(np.empty((0, 2), int), 3).tolist() == [-1, -1, -1]
    assert groups_of_pairs([[2, 2]], 3).tolist() == [-1, -1, -1]


def test_mutual_groups():
    ids = np.array([[1, 2], [0, 3], [3, -1], [2, 1], [0, 1], [-1, -1]])
    graph = KnnGraph(ids, np.where(ids < 0, -np.inf, 0.5).astype(np.float32))
    assert mutual_groups(graph).tolist() == [0, 0, 0, 0, -1, -1]  # 0-1, 1-3, 2-3
    one = KnnGraph(ids[:, :1], graph.weights[:, :1])
    assert mutual_groups(one).tolist() == [0, 0, 1, 1, -1, -1]


def test_members_of_groups():
    groups = groups_of_pairs([[1, 4], [4, 6], [0, 3]], 8)
    assert [rows.tolist() for rows in members(groups)] == [[0, 3], [1, 4, 6]]
    assert members(np.full(3, -1)) == []


@pytest.mark.parametrize("pairs", [[[1, 9]], [[-1, 3]]])
def test_pairs_outside_the_rows_are_refused(pairs):
    with pytest.raises(ArrayError, match="but rows go from 0 to 4"):
        groups_of_pairs(pairs, 5)
