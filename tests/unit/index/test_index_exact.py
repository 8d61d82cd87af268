import threading

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.index import exact
from resight.index.exact import ExactIndex
from resight.index.half_precision import half_products, widen


def vectors(n, dim=8, seed=0):
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def slow_search(queries, rows, database, k):
    found = []
    for query in queries.astype(np.float64):
        scores = [
            (-np.float32(float(query @ x)), row) for row, x in zip(rows, database.astype(np.float64), strict=True)
        ]
        found.append([row for _, row in sorted(scores)[:k]])
    return found


@pytest.mark.parametrize("k", [1, 10, 300, 999])
def test_search_is_its_definition(k, monkeypatch):
    monkeypatch.setattr(exact, "VECTOR_BLOCK", 64)
    monkeypatch.setattr(exact, "QUERY_BLOCK", 3)
    database, queries = vectors(300), vectors(10, seed=1)
    ranking = ExactIndex.over(database).search(queries, k)
    assert ranking.ids.tolist() == slow_search(queries, range(300), database, k)
    expected = np.take_along_axis(queries @ database.T, ranking.ids, 1)
    np.testing.assert_allclose(ranking.scores, expected, atol=1e-6)


@pytest.mark.parametrize("block", [5, 64, 4096])
def test_equal_scores_are_ordered_by_row(block, monkeypatch):
    monkeypatch.setattr(exact, "VECTOR_BLOCK", block)
    few = np.eye(3, dtype=np.float32)
    database = few[np.random.default_rng(0).integers(0, 3, 200)]
    ranking = ExactIndex.over(database).search(few, 150)
    for query, ids, scores in zip(few, ranking.ids, ranking.scores, strict=True):
        expected = np.lexsort((np.arange(200), -(database @ query)))[:150]
        assert ids.tolist() == expected.tolist()
        assert set(scores.tolist()) == {0.0, 1.0}


def test_equal_vectors_score_equally_in_any_batch():
    one = vectors(1, 2048)
    database = np.repeat(one, 301, axis=0)
    queries = vectors(7, 2048, seed=1)
    index = ExactIndex.over(database)
    together = index.search(queries, 20)
    assert (together.ids == np.arange(20)).all()
    for q in range(7):
        alone = index.search(queries[q : q + 1], 20)
        assert np.array_equal(alone.scores[0], together.scores[q])


def test_allowed_rows(monkeypatch):
    monkeypatch.setattr(exact, "VECTOR_BLOCK", 16)
    database, queries = vectors(200), vectors(5, seed=1)
    allowed = np.array([150, 3, 77, 9999, 20, *range(100, 140)])
    ranking = ExactIndex.over(database).search(queries, 10, allowed)
    kept = np.sort(allowed[allowed < 200])
    assert ranking.ids.tolist() == slow_search(queries, kept, database[kept], 10)
    assert ExactIndex.over(database).search(queries, 10, [7, 500]).ids.tolist() == [[7]] * 5
    assert ExactIndex.over(database).search(queries, 10, np.zeros(0, int)).ids.shape == (5, 0)


def test_added_in_pieces_removed_and_updated():
    database, queries = vectors(100), vectors(4, seed=1)
    index = ExactIndex(8)
    order = np.random.default_rng(2).permutation(100)
    for part in np.array_split(order, 7):
        index.add(part * 10, database[part])
    assert len(index) == 100
    assert index.rows.tolist() == list(range(0, 1000, 10))
    assert index.search(queries, 30).ids.tolist() == slow_search(queries, range(0, 1000, 10), database, 30)

    index.remove([500, 0, 990])
    kept = np.setdiff1d(np.arange(100), [50, 0, 99])
    assert index.search(queries, 97).ids.tolist() == slow_search(queries, kept * 10, database[kept], 97)

    other = vectors(2, seed=3)
    index.update([0, 10], other)
    changed = np.concatenate([other, database[[*range(2, 50), *range(51, 99)]]])
    rows = np.delete(np.arange(0, 990, 10), 50)
    assert index.search(queries, 98).ids.tolist() == slow_search(queries, rows, changed, 98)


def test_adding_to_an_index_in_place_leaves_the_array_alone():
    database = vectors(20)
    before = database.copy()
    index = ExactIndex.over(database)
    index.add([30], vectors(1, seed=5))
    index.update([3], vectors(1, seed=6))
    assert len(index) == 21
    assert np.array_equal(database, before)


def test_search_while_another_thread_adds():
    database = vectors(2000)
    index, wrong = ExactIndex(8), []
    index.add(np.arange(10), database[:10])

    def read():
        while len(index) < 2000:
            ranking = index.search(database[:5], 1)
            wrong.extend(np.flatnonzero(ranking.ids[:, 0] != np.arange(5)))

    reader = threading.Thread(target=read)
    reader.start()
    for start in range(10, 2000, 10):
        index.add(np.arange(start, start + 10), database[start : start + 10])
    reader.join()
    assert not wrong


def test_memory_maps_are_searched_in_place(tmp_path):
    np.save(tmp_path / "x.npy", vectors(50))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    index = ExactIndex.over(mapped)
    assert np.shares_memory(index._held[1], mapped)
    assert index.search(mapped[:3], 1).ids.tolist() == [[0], [1], [2]]


def every_half():
    bits = np.arange(2**16, dtype=np.uint16)
    return bits[np.isfinite(bits.view(np.float16))].reshape(1, -1)


def test_every_half_is_widened_exactly():
    halves = every_half()
    wide = widen(halves, np.empty(halves.shape, np.float32))
    assert wide.tobytes() == halves.view(np.float16).astype(np.float32).tobytes()


def test_products_of_every_half():
    halves = np.ascontiguousarray(every_half()[0, ::-1])[:, None]
    scores = np.empty((1, len(halves)), np.float32)
    positions = np.arange(len(halves))[None]
    half_products(np.full((1, 1), 0.5, np.float32), halves, positions, positions[0], scores)
    assert np.array_equal(scores[0], halves[:, 0].view(np.float16).astype(np.float32) / 2)


@pytest.mark.parametrize("k", [1, 10, 300])
def test_half_precision_rounds_the_vectors_only(k, monkeypatch):
    monkeypatch.setattr(exact, "VECTOR_BLOCK", 64)
    database, queries = vectors(300, 33), vectors(10, 33, seed=1)
    half, rounded = ExactIndex.over(database, half=True), ExactIndex.over(database.astype(np.float16))
    for allowed in (None, np.arange(0, 300, 3)):
        ranking, expected = (index.search(queries, k, allowed) for index in (half, rounded))
        assert np.array_equal(ranking.ids, expected.ids)
        np.testing.assert_allclose(ranking.scores, expected.scores, atol=1e-7)
    assert not np.array_equal(ranking.scores, ExactIndex.over(database).search(queries, k, allowed).scores)


def test_half_precision_grows_and_shrinks():
    database, queries = vectors(100), vectors(4, seed=1)
    index = ExactIndex(8, half=True)
    for part in np.array_split(np.random.default_rng(2).permutation(100), 7):
        index.add(part, database[part])
    index.remove([3, 50])
    index.update([3], database[3:4])
    kept = np.delete(np.arange(100), 50)
    rounded = database.astype(np.float16).astype(np.float32)
    assert index.search(queries, 99).ids.tolist() == slow_search(queries, kept, rounded[kept], 99)
    assert index._held[1].dtype == np.float16


def test_half_precision_takes_halves_in_place():
    database = vectors(50).astype(np.float16)
    index = ExactIndex.over(database, half=True)
    assert np.shares_memory(index._held[1], database)
    assert index.search(database[:3], 1).ids.tolist() == [[0], [1], [2]]


def test_half_precision_refuses_what_it_cannot_hold():
    index = ExactIndex(2, half=True)
    index.add([1], [[65504.0, 0]])
    with pytest.raises(ArrayError, match=r"row 1 of vectors \(half precision ends at 65504\) holds NaN"):
        index.update([1, 2], [[0, 0], [70000.0, 0]])
    assert index.search([[1e6, 0]], 1).scores[0, 0] == pytest.approx(65504e6)  # queries stay float32


def test_nothing_to_search():
    assert ExactIndex(4).search(np.zeros((3, 4)), 5).ids.shape == (3, 0)
    assert ExactIndex.over(vectors(5)).search(np.zeros((0, 8)), 5).ids.shape == (0, 5)
    index = ExactIndex.over(vectors(5))
    index.remove(range(5))
    assert len(index) == 0
    index.add([], np.zeros((0, 8)))
    assert index.search(vectors(1), 2).ids.shape == (1, 0)


def test_bad_arguments():
    index = ExactIndex.over(vectors(5))
    with pytest.raises(UsageError, match="dim=0"):
        ExactIndex(0)
    with pytest.raises(UsageError, match="0 results"):
        index.search(vectors(1), 0)
    with pytest.raises(ArrayError, match=r"expected \(any, 8\)"):
        index.search(vectors(1, 7), 3)
    with pytest.raises(ArrayError, match="row 1 of vectors holds NaN"):
        index.search([[0.0] * 8, [np.nan] * 8], 3)
    with pytest.raises(UsageError, match="row 4 is in the index already"):
        index.add([9, 4], vectors(2))
    with pytest.raises(ArrayError, match="row 9 is given twice"):
        index.add([9, 9], vectors(2))
    with pytest.raises(ArrayError, match="rows start at 0"):
        index.add([-1], vectors(1))
    with pytest.raises(ArrayError, match="rows has shape"):
        index.add([9], vectors(2))
    with pytest.raises(UsageError, match="row 7 is not in the index"):
        index.remove([0, 7])
    assert len(index) == 5
