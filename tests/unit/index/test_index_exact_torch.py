import numpy as np
import pytest
import torch

from resight.errors import ArrayError, UsageError
from resight.index import exact_torch
from resight.index.exact import ExactIndex
from resight.index.exact_torch import exact_search_torch

torch.set_num_threads(1)


def vectors(count, dim=24, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 40, 500])
def test_it_finds_what_the_exact_index_finds(k, monkeypatch):
    monkeypatch.setattr(exact_torch, "VECTOR_BLOCK", 64)
    monkeypatch.setattr(exact_torch, "QUERY_BLOCK", 7)
    database, queries = vectors(300), vectors(20, seed=1)
    found, expected = exact_search_torch(queries, database, k, "cpu"), ExactIndex.over(database).search(queries, k)
    assert np.array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_equal_scores_are_ordered_by_row(monkeypatch):
    monkeypatch.setattr(exact_torch, "VECTOR_BLOCK", 16)
    few = np.eye(3, dtype=np.float32)
    database = few[np.random.default_rng(0).integers(0, 3, 40)]
    found = exact_search_torch(few, database, 30, "cpu")
    assert np.array_equal(found.ids, ExactIndex.over(database).search(few, 30).ids)


def test_nothing_to_search():
    assert exact_search_torch(vectors(3), vectors(0), 5, "cpu").ids.shape == (3, 0)
    assert exact_search_torch(vectors(0), vectors(9), 5, "cpu").ids.shape == (0, 5)


def test_bad_arguments():
    with pytest.raises(UsageError, match="0 results"):
        exact_search_torch(vectors(1), vectors(2), 0, "cpu")
    with pytest.raises(ArrayError, match=r"expected \(any, 24\)"):
        exact_search_torch(vectors(1, 7), vectors(2), 1, "cpu")
    with pytest.raises(UsageError, match="device 'abacus' cannot be used"):
        exact_search_torch(vectors(1), vectors(2), 1, "abacus")
