import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from resight.errors import ArrayError, CollectionError, UsageError
from resight.index import codebook as codebooks
from resight.index import word_lists
from resight.index.codebook import Codebook
from resight.index.kmeans import nearest
from resight.index.word_lists import WordLists

RNG = np.random.default_rng(2)
CENTRES = RNG.standard_normal((60, 24))
WORDS = (CENTRES.repeat(20, axis=0) + 0.4 * RNG.standard_normal((1200, 24))).astype(np.float32)
POINTS = (WORDS[::3] + 0.3 * RNG.standard_normal((400, 24))).astype(np.float32)


@pytest.fixture(scope="module")
def lists():
    return WordLists.fit(WORDS)


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(codebooks, "EXACT_WORDS", 1000)
    monkeypatch.setattr(word_lists, "PROBES", 1)
    return Codebook(WORDS)


@pytest.mark.parametrize("k", [1, 5])
def test_most_of_the_nearest_words_are_found_and_in_order(lists, k, monkeypatch):
    monkeypatch.setattr(word_lists, "PROBES", 12)
    found, exact = lists.nearest(WORDS, POINTS, k), nearest(POINTS, WORDS, k)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
    assert len(lists.coarse) == 69
    assert np.mean(shared) / k > 0.97
    distances = np.linalg.norm(POINTS[:, None] - WORDS[found], axis=2)
    assert (np.diff(distances, axis=1) >= -1e-6).all()


def test_all_lists_give_the_exact_words(lists, monkeypatch):
    monkeypatch.setattr(word_lists, "PROBES", 69)
    np.testing.assert_array_equal(lists.nearest(WORDS, POINTS, 5), nearest(POINTS, WORDS, 5))


def test_words_do_not_depend_on_order_blocks_or_neighbours(lists, monkeypatch):
    whole, order = lists.nearest(WORDS, POINTS, 5), RNG.permutation(400)
    np.testing.assert_array_equal(lists.nearest(WORDS, POINTS[order], 5), whole[order])
    np.testing.assert_array_equal(lists.nearest(WORDS, POINTS[7:8], 5), whole[7:8])
    monkeypatch.setattr(word_lists, "BLOCK", 33)
    np.testing.assert_array_equal(lists.nearest(WORDS, POINTS, 5), whole)
    np.testing.assert_array_equal(WordLists.fit(WORDS).owners, lists.owners)
    assert lists.nearest(WORDS, POINTS[:0], 5).shape == (0, 5)


def test_short_lists_are_searched_until_there_are_enough_words(monkeypatch):
    monkeypatch.setattr(word_lists, "PROBES", 1)
    lists = WordLists(WORDS[:40], np.arange(40))
    for k in (1, 5, 39, 40):
        found = lists.nearest(WORDS[:40], POINTS[:50], k)
        assert all(len(np.unique(row)) == k for row in found)
        np.testing.assert_array_equal(found[:, :1], nearest(POINTS[:50], WORDS[:40], 1))


def test_a_large_codebook_seeks_its_words_in_lists(large, tmp_path):
    found = large.assign(POINTS, 3)
    assert (found[:, 0] == nearest(POINTS, WORDS, 1)[:, 0]).mean() > 0.8
    assert not np.array_equal(found, nearest(POINTS, WORDS, 3))
    large.save(tmp_path / "words")
    again = Codebook.load(tmp_path / "words")
    assert again.fingerprint == large.fingerprint
    assert again.lists is not None
    np.testing.assert_array_equal(again.assign(POINTS, 3), found)
    with pytest.raises(ArrayError, match="too large"):
        large.assign(np.full((1, 24), 1e30))
    with pytest.raises(UsageError, match="1201 words"):
        large.assign(POINTS, 1201)


def test_lists_of_another_codebook_are_refused(large, lists, tmp_path):
    with pytest.raises(ArrayError, match="not those of its words"):
        Codebook(WORDS[:-1], lists=lists)
    with pytest.raises(ArrayError, match=r"0\.\.2"):
        WordLists(WORDS[:3], [0, 3])
    large.save(tmp_path / "words")
    tensors = load_file(tmp_path / "words")
    tensors["owners"][5] = 70
    stamp = {"format": "resight-codebook-2", "fingerprint": large.fingerprint}
    save_file(tensors, tmp_path / "words", stamp)
    with pytest.raises(CollectionError, match="damaged"):
        Codebook.load(tmp_path / "words")
