"""Words by shortlist against all words, and the cache of what was used lately."""

from __future__ import annotations

import numpy as np
import pytest

from resight.errors import ArrayError
from resight.index.asmk import Codebook
from resight.ranking import query_words
from resight.ranking.bounded_cache import BoundedCache
from resight.ranking.query_words import assign


@pytest.fixture(scope="module")
def large():
    """A codebook of 1500 words, and descriptors near some of them."""
    rng = np.random.default_rng(2)
    centroids = rng.random((1500, 128)) ** 3
    points = np.abs(centroids[rng.integers(0, 1500, 200)] + 0.1 * rng.normal(size=(200, 128)))
    return Codebook(centroids), points.astype(np.float32)


def test_a_shortlist_finds_nearly_all_words(large):
    codebook, points = large
    full, short = codebook.assign(points, 5), assign(codebook, points, 5)
    assert (full[:, 0] == short[:, 0]).mean() > 0.97
    assert (full[:, :, None] == short[:, None]).any(axis=2).mean() > 0.5
    assert all(len(set(row)) == 5 for row in short.tolist())


def test_words_come_nearest_first(large, monkeypatch):
    codebook, points = large
    monkeypatch.setattr(query_words, "SLACK", 200)
    short, full = assign(codebook, points, 4), codebook.assign(points, 4)
    assert (short == full).mean() > 0.97  # the rest is rounding to bytes


def test_few_words_are_compared_in_full():
    rng = np.random.default_rng(0)
    codebook, points = Codebook(rng.random((40, 16))), rng.random((30, 16)).astype(np.float32)
    np.testing.assert_array_equal(assign(codebook, points, 3), codebook.assign(points, 3))


def test_equal_words_are_ordered_by_number():
    codebook = Codebook(np.tile(np.eye(1, 128, dtype=np.float32), (1200, 1)))
    assert assign(codebook, np.eye(2, 128, dtype=np.float32), 3).tolist() == [[0, 1, 2], [0, 1, 2]]


def test_descriptors_must_fit_the_codebook(large):
    codebook, points = large
    with pytest.raises(ArrayError, match="descriptors"):
        assign(codebook, points[:, :5], 2)
    with pytest.raises(ArrayError, match="NaN"):
        assign(codebook, np.full((2, 128), np.nan, np.float32), 2)
    assert assign(codebook, points[:0], 2).shape == (0, 2)


def test_a_cache_forgets_what_was_used_longest_ago():
    cache: BoundedCache[str, int] = BoundedCache(10)
    for key in "abc":
        cache.put(key, ord(key), 3)
    assert cache.get("a") == 97
    cache.put("d", 100, 3)
    assert [cache.get(key) for key in "abcd"] == [97, None, 99, 100]
    cache.put("a", 1, 9)
    assert (cache.get("a"), len(cache), cache.size) == (1, 1, 9)
    cache.put("z", 2, 11)
    assert (len(cache), cache.size, cache.get("z")) == (0, 0, None)
