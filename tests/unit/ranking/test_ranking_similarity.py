import subprocess
import sys

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.index.exact import ExactIndex
from resight.matching.oasis import Oasis
from resight.matching.similarity import new_similarity
from resight.ranking.pipeline import explain
from resight.ranking.search import GlobalSearch
from resight.ranking.similarity import SimilarityRerank, deep_similarity
from resight.types import Queries, Ranking

DIM = 5


def unit(n, seed):
    rows = np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def vectors():
    return unit(30, 0)


@pytest.fixture
def queries():
    return Queries(vectors=unit(4, 1))


def test_the_first_results_are_ordered_by_learned_score(vectors, queries):
    similarity = new_similarity(DIM, (8, 6))
    before = GlobalSearch(ExactIndex.over(vectors))(queries)
    after = SimilarityRerank(similarity, np.arange(30), vectors, top=7)(queries, before)
    scores = similarity.score(queries.vectors, vectors)
    for q in range(4):
        head = before.ids[q, :7]
        assert after.ids[q, :7].tolist() == sorted(head, key=lambda row: (-scores[q, row], row))
        np.testing.assert_allclose(after.scores[q, :7], scores[q, after.ids[q, :7]], atol=1e-6)
    assert np.array_equal(after.ids[:, 7:], before.ids[:, 7:])


def test_oasis_of_the_identity_changes_nothing(vectors, queries):
    before = GlobalSearch(ExactIndex.over(vectors))(queries)
    after = SimilarityRerank(Oasis.identity(DIM), np.arange(30), vectors)(queries, before)
    assert np.array_equal(after.ids, before.ids)
    np.testing.assert_allclose(after.scores, before.scores, atol=1e-6)


def test_results_behind_the_top_never_rise(vectors, queries):
    # learned scores far below and far above the cosines of the tail
    for factor in (-100.0, 100.0):
        ranking = SimilarityRerank(Oasis(factor * np.eye(DIM)), np.arange(30), vectors, top=3)(
            queries, GlobalSearch(ExactIndex.over(vectors))(queries)
        )
        assert (np.sort(ranking.ids, axis=1) == np.arange(30)).all()


def test_rows_with_gaps_and_short_lists(queries):
    rows, vectors = np.array([3, 8, 11]), unit(3, 2)
    ranking = Ranking.from_lists([[8, 3], [], [11], [3, 8, 11]], [[2.0, 1.0], [], [0.5], [3.0, 2.0, 1.0]])
    after = SimilarityRerank(Oasis.identity(DIM), rows, vectors)(queries, ranking)
    products = queries.vectors @ vectors.T
    assert after.lengths.tolist() == [2, 0, 1, 3]
    assert after.ids[3].tolist() == rows[np.argsort(-products[3])].tolist()
    assert after.scores[2, 0] == pytest.approx(products[2, 2], abs=1e-6)


def test_recipe_and_filter(vectors, queries):
    pipeline = deep_similarity(ExactIndex.over(vectors), new_similarity(DIM, (8, 6)), np.arange(30), vectors, top=10)
    assert pipeline(queries).ids.shape == (4, 30)
    allowed = np.array([2, 5, 9])
    few = deep_similarity(ExactIndex.over(vectors), Oasis.identity(DIM), np.arange(30), vectors, allowed=allowed)(
        queries
    )
    assert (np.sort(few.ids, axis=1) == allowed).all()


def test_a_result_is_explained(vectors, queries):
    similarity = new_similarity(DIM, (8, 6))
    stage = SimilarityRerank(similarity, np.arange(30), vectors)
    (evidence,) = explain(stage, queries, 2, 7, None)
    assert evidence.data["similarity"] == pytest.approx(similarity.score(queries.vectors[2:3], vectors[7:8])[0, 0])
    assert evidence.data["product"] == pytest.approx(queries.vectors[2] @ vectors[7], abs=1e-6)
    assert f"{evidence.data['similarity']:.3f}" in evidence.summary


def test_wrong_use_is_refused(vectors, queries):
    similarity, rows = Oasis.identity(DIM), np.arange(30)
    with pytest.raises(UsageError, match="needs a ranking"):
        SimilarityRerank(similarity, rows, vectors)(queries)
    with pytest.raises(UsageError, match="no global descriptors"):
        SimilarityRerank(similarity, rows, vectors)(Queries(rows=[1]), Ranking([[0]], [[1.0]]))
    with pytest.raises(ArrayError, match="trained on 5"):
        SimilarityRerank(similarity, rows, vectors)(Queries(vectors=np.ones((1, 4))), Ranking([[0]], [[1.0]]))
    for missing in (30, 1):
        some = np.delete(rows, 1)
        with pytest.raises(UsageError, match=f"row {missing} has no descriptor"):
            SimilarityRerank(similarity, some, vectors[some])(queries.only(0), Ranking([[missing]], [[1.0]]))
    with pytest.raises(UsageError, match="top=0"):
        SimilarityRerank(similarity, rows, vectors, top=0)
    with pytest.raises(ArrayError, match="vectors has shape"):
        SimilarityRerank(similarity, rows, vectors[:, :3])
    with pytest.raises(ArrayError, match="ascend"):
        SimilarityRerank(similarity, rows[::-1], vectors)


def test_searching_does_not_import_torch():
    code = "import resight.ranking.similarity, resight.matching.similarity, sys; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
