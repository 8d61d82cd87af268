import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.index.exact import ExactIndex
from resight.products import longest
from tie_free import tie_free

SETTINGS = settings(max_examples=40, deadline=None)
worlds = st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**32 - 1))


def world(n, dim, seed):
    rng = np.random.default_rng(seed)
    database, queries = rng.standard_normal((n, dim)), rng.standard_normal((3, dim))
    return rng, database.astype(np.float32), queries.astype(np.float32)


def without_ties(queries, database):
    return tie_free(queries.astype(np.float64) @ database.T, longest(queries) * longest(database))


@SETTINGS
@given(worlds, st.integers(1, 70))
def test_permuting_the_database_permutes_the_answer(shape, k):
    rng, database, queries = world(*shape)
    order = rng.permutation(len(database))
    plain, moved = ExactIndex.over(database).search(queries, k), ExactIndex.over(database[order]).search(queries, k)
    clear = without_ties(queries, database)
    assert np.array_equal(order[moved.ids][clear], plain.ids[clear])
    assert np.array_equal(moved.scores, plain.scores)


@SETTINGS
@given(worlds, st.integers(1, 70), st.data())
def test_a_filter_keeps_the_order_of_what_it_lets_through(shape, k, data):
    _, database, queries = world(*shape)
    allowed = np.array(data.draw(st.lists(st.integers(0, len(database) - 1), unique=True)), int)
    index = ExactIndex.over(database)
    full, some = index.search(queries, len(database)), index.search(queries, k, allowed)
    for q in np.flatnonzero(without_ties(queries, database)):
        assert some.ids[q].tolist() == [row for row in full.ids[q] if row in allowed][:k]


@SETTINGS
@given(worlds)
def test_removing_and_adding_back_changes_nothing(shape):
    rng, database, queries = world(*shape)
    index = ExactIndex.over(database)
    before = index.search(queries, 10)
    gone = np.flatnonzero(rng.random(len(database)) < 0.5)
    index.remove(gone)
    assert not np.isin(index.search(queries, 100).ids, gone).any()
    index.add(gone[::-1], database[gone[::-1]])
    after = index.search(queries, 10)
    assert np.array_equal(before.ids, after.ids)
    assert np.array_equal(before.scores, after.scores)
