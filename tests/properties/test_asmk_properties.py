import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.index.asmk import Asmk, Codebook

CENTROIDS = np.random.default_rng(2**40).standard_normal((12, 20))
CODEBOOKS = [Codebook(CENTROIDS), Codebook(CENTROIDS).with_rotation(CENTROIDS * 1.1, np.random.default_rng(1))]

worlds = st.builds(
    lambda seed, sizes, options, codebook: (np.random.default_rng(seed), sizes, options, CODEBOOKS[codebook]),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 12), min_size=2, max_size=9),
    st.fixed_dictionaries({"binary": st.booleans(), "idf": st.booleans(), "tau": st.sampled_from([0.0, 0.25, -1.0])}),
    st.integers(0, 1),
)


def make(world):
    """An index with rows 0..n-1, its rows and descriptors per image, and queries."""
    rng, sizes, options, codebook = world
    images = [rng.standard_normal((size, 20)).astype(np.float32) for size in sizes]
    index = Asmk(codebook, **options)
    index.add(np.repeat(np.arange(len(images)), sizes), np.vstack(images))
    queries = np.repeat([0, 1], 8), rng.standard_normal((16, 20)).astype(np.float32)
    return index, images, queries


def rebuilt(index):
    return Asmk(index.codebook, binary=index.kernel.binary, idf=index.kernel.idf, tau=index.kernel.tau)


@settings(max_examples=15, deadline=None)
@given(worlds)
def test_permuting_the_database_permutes_the_answer(world):
    index, images, queries = make(world)
    new_row = world[0].permutation(len(images))
    other = rebuilt(index)
    other.add(np.repeat(new_row, [len(image) for image in images]), np.vstack(images))
    np.testing.assert_array_equal(other.scores(*queries)[:, new_row], index.scores(*queries))


@settings(max_examples=15, deadline=None)
@given(worlds, st.booleans())
def test_adding_in_pieces_is_adding_at_once(world, backwards):
    index, images, queries = make(world)
    other = rebuilt(index)
    for row in sorted(range(len(images)), reverse=backwards):
        other.add(np.full(len(images[row]), row), images[row])
    assert_same(other, index, queries)


@settings(max_examples=15, deadline=None)
@given(worlds, st.data())
def test_added_and_removed_is_never_added(world, data):
    index, images, queries = make(world)
    gone = data.draw(st.lists(st.integers(0, len(images) - 1), unique=True, min_size=1, max_size=len(images) - 1))
    other = rebuilt(index)
    for row in set(range(len(images))) - set(gone):
        other.add(np.full(len(images[row]), row), images[row])
    index.remove(gone)
    assert_same(other, index, queries)


@settings(max_examples=12, deadline=None)
@given(worlds)
def test_the_order_of_descriptors_does_not_matter(world):
    index, images, queries = make(world)
    order = world[0].permutation(sum(map(len, images)))
    other = rebuilt(index)
    other.add(np.repeat(np.arange(len(images)), [len(image) for image in images])[order], np.vstack(images)[order])
    np.testing.assert_allclose(other.scores(*queries), index.scores(*queries), atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(worlds, st.integers(1, 9))
def test_a_shorter_answer_is_the_head_of_the_longer(world, k):
    index, images, queries = make(world)
    whole, head = index.search(*queries), index.search(*queries, k)
    np.testing.assert_array_equal(head.ids, whole.ids[:, :k])
    assert np.sort(whole.ids, axis=1).tolist() == [list(range(len(images)))] * 2


@pytest.mark.parametrize("binary", [True, False])
@settings(max_examples=12, deadline=None)
@given(worlds)
def test_similarity_to_itself_is_one_and_nothing_exceeds_it(binary, world):
    rng, sizes, _, codebook = world
    images = [rng.standard_normal((size, 20)).astype(np.float32) for size in sizes]
    rows = np.repeat(np.arange(len(sizes)), sizes)
    index = Asmk(codebook, binary=binary, query_multiple=1, asymmetric=False)
    index.add(rows, np.vstack(images))
    scores = index.scores(rows, np.vstack(images))
    np.testing.assert_allclose(np.diag(scores), 1, atol=1e-4)
    assert scores.max() <= 1 + 1e-5


def assert_same(a, b, queries):
    np.testing.assert_array_equal(a.rows, b.rows)
    np.testing.assert_array_equal(a.scores(*queries), b.scores(*queries))
    left, right = a.search(*queries), b.search(*queries)
    np.testing.assert_array_equal(left.ids, right.ids)
