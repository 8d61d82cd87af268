import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.index.exact import ExactIndex
from resight.matching.oasis import Oasis
from resight.matching.similarity import new_similarity
from resight.ranking.search import GlobalSearch
from resight.ranking.similarity import SimilarityRerank
from resight.training.similarity.pairs import pairs_from_groups, split
from resight.types import Queries

SETTINGS = settings(max_examples=40, deadline=None)
worlds = st.tuples(st.integers(1, 40), st.integers(2, 9), st.integers(0, 2**32 - 1))


def world(n, dim, seed):
    rng = np.random.default_rng(seed)
    database, queries = rng.standard_normal((n, dim)), rng.standard_normal((3, dim))
    return rng, database.astype(np.float32), queries.astype(np.float32)


@SETTINGS
@given(worlds, st.booleans())
def test_scores_are_those_of_the_pairs(shape, symmetric):
    _, database, queries = world(*shape)
    network = new_similarity(shape[1], (6, 5), seed=shape[2], symmetric=symmetric)
    scores = network.score(queries, database)
    left, right = np.repeat(queries, len(database), axis=0), np.tile(database, (3, 1))
    np.testing.assert_allclose(network.pairs(left, right).reshape(scores.shape), scores, atol=1e-4, rtol=1e-4)


@SETTINGS
@given(worlds, st.integers(1, 50))
def test_reranking_keeps_every_result_and_the_tail_in_order(shape, top):
    rng, database, queries = world(*shape)
    similarity = Oasis(rng.standard_normal((shape[1], shape[1])))
    before = GlobalSearch(ExactIndex.over(database))(Queries(vectors=queries))
    stage = SimilarityRerank(similarity, np.arange(len(database)), database, top)
    after = stage(Queries(vectors=queries), before)
    assert np.array_equal(np.sort(after.ids[:, :top]), np.sort(before.ids[:, :top]))
    assert np.array_equal(after.ids[:, top:], before.ids[:, top:])
    assert np.array_equal(stage(Queries(vectors=queries), after).ids, after.ids)


@SETTINGS
@given(worlds)
def test_permuting_the_database_permutes_the_answer(shape):
    rng, database, queries = world(*shape)
    order, rows = rng.permutation(len(database)), np.arange(len(database))
    similarity, asked = Oasis(rng.standard_normal((shape[1], shape[1]))), Queries(vectors=queries)
    plain, moved = (
        SimilarityRerank(similarity, rows, x)(asked, GlobalSearch(ExactIndex.over(x))(asked))
        for x in (database, database[order])
    )
    np.testing.assert_allclose(moved.scores, plain.scores, atol=1e-5)
    if (np.diff(plain.scores, axis=1) < -1e-4).all():
        assert np.array_equal(order[moved.ids], plain.ids)


@SETTINGS
@given(st.lists(st.integers(-1, 6), min_size=2, max_size=60), st.integers(1, 9), st.integers(0, 9), st.integers(0, 99))
def test_pairs_of_groups_are_right_and_unique(groups, partners, others, seed):
    groups = np.array(groups)
    pairs = pairs_from_groups(groups, partners=partners, others=others, seed=seed)
    assert len(set(zip(pairs.left, pairs.right, strict=True))) == len(pairs)
    assert np.array_equal(pairs.matching, groups[pairs.left] == groups[pairs.right])
    assert (groups[pairs.left] >= 0).all()
    sizes = np.array([(groups == group).sum() for group in groups])
    expected = np.where(groups >= 0, np.minimum(sizes - 1, partners), 0)
    assert np.array_equal(np.bincount(pairs.left[pairs.matching], minlength=len(groups)), expected)


@SETTINGS
@given(st.integers(4, 30), st.integers(0, 99), st.floats(0.1, 0.5))
def test_a_split_has_no_photo_twice(count, seed, share):
    groups = np.arange(3 * count) // 3
    train, held = split(pairs_from_groups(groups, others=200, seed=seed), max(share, 1.6 / count), seed)
    sides = [set(part.left.tolist()) | set(part.right.tolist()) for part in (train, held)]
    assert not sides[0] & sides[1]
    assert all(0 < part.matching.sum() < len(part) for part in (train, held))
