"""How photos held back are judged, and the picture of queries before and after."""

import numpy as np
import pytest

from photo_factory import make_photos
from resight.reports.training_page import HEADING, rankings_picture
from resight.training.data import Examples
from resight.training.validation import SHOWN, Judged, judged_vectors, relevance


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Three things of three photos; of the last, one pair alone is named."""
    photos = make_photos(tmp_path_factory.mktemp("held") / "photos", objects=3, views=3)
    names = tuple(name for group in photos.groups for name in group)
    pairs = [(a, b) for first in (0, 3) for a in range(first, first + 3) for b in range(first, first + 3) if a != b]
    files = tuple(str(photos.folder / name) for name in names)
    return Examples(names, files, np.repeat(np.arange(3), 3), np.array([*pairs, (6, 7), (7, 6)]))


def by_loops(examples, vectors):
    found = {}
    for query in sorted({int(q) for q, _ in examples.pairs}):
        partners = {int(p) for q, p in examples.pairs if q == query}
        order = sorted(range(len(vectors)), key=lambda row: (-float(vectors[query] @ vectors[row]), row))
        order = [row for row in order if row != query]
        counted = [r for r in order if r in partners or examples.clusters[r] != examples.clusters[query]]
        hits = [place for place, row in enumerate(counted, 1) if row in partners]
        found[query] = sum(n / place for n, place in enumerate(hits, 1)) / len(partners), order[:SHOWN]
    return found


def test_precision_and_first_results_are_those_of_a_loop(examples):
    vectors = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found, expected = judged_vectors(examples, vectors), by_loops(examples, vectors)
    assert found.queries.tolist() == list(expected)
    np.testing.assert_allclose(found.precision, [precision for precision, _ in expected.values()])
    assert found.first.tolist() == [first for _, first in expected.values()]
    assert found.map == pytest.approx(np.mean([precision for precision, _ in expected.values()]))


def test_descriptors_of_nan_find_nothing(examples):
    found = judged_vectors(examples, np.full((9, 4), np.nan, np.float32))
    assert np.isnan(found.precision).all()
    assert np.isnan(found.map)
    assert (found.first == -1).all()


def test_what_is_right_and_what_does_not_count(examples):
    queries = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    right, doubtful = relevance(examples, queries, np.tile([1, 6, 7, 8, -1], (8, 1)))
    assert right[0].tolist() == [True, False, False, False, False]
    assert right[6].tolist() == [False, False, True, False, False]
    assert doubtful[6].tolist() == [False, True, False, True, False]  # the query itself, and one that no pair names


def test_the_picture_shows_gains_and_losses_and_nothing_where_nothing_changed(examples):
    queries = np.arange(8)
    first = np.tile([1, 2, 3, 4, 5, 6, 7, 8], (8, 1))
    before = Judged(queries, np.full(8, 0.5), first)
    assert rankings_picture(examples, before, before) is None
    after = Judged(queries, np.array([0.9, 0.8, 0.7, 0.6, 0.55, 0.4, 0.5, np.nan]), first)
    picture = rankings_picture(examples, before, after)
    strips = 2 * (4 + 1)  # four gains and one loss, before and after; what cannot be scored did not change
    assert picture.height % strips == 0
    assert picture.height // strips > 120 + HEADING
