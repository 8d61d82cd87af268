"""Regional aggregation as plain loops over the formula, and against aggregation without regions."""

from __future__ import annotations

import numpy as np
import pytest

from resight.errors import ArrayError
from resight.features.local.regions import grid_regions, members
from resight.index.aggregation import aggregate
from resight.index.asmk import Asmk, Codebook
from resight.index.binarisation import pack
from resight.index.regional import aggregate_regions


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    sizes = [(40, 0.0), (25, 3.0), (0, 0.0), (60, -2.0)]
    return [
        (rng.uniform(0, (320, 240), (n, 2)).astype(np.float32), rng.normal(shift, 1, (n, 12)).astype(np.float32))
        for n, shift in sizes
    ]


@pytest.fixture(scope="module")
def codebook():
    """Of other photos: residuals of the photos it was learned from can cancel out to rounding errors."""
    rng = np.random.default_rng(1)
    return Codebook.fit(np.concatenate([rng.normal(shift, 1, (50, 12)) for shift in (0, 3, -2)]).astype(np.float32), 8)


def by_loops(codebook, xy, descriptors, regions):
    """{word: sum over regions of the unit sum of residuals}."""
    total = {}
    for left, top, right, bottom in regions:
        votes = {}
        for (x, y), descriptor in zip(xy, descriptors.astype(np.float64), strict=True):
            if left <= x < right and top <= y < bottom:
                word = min(range(len(codebook)), key=lambda c: ((descriptor - codebook.centroids[c]) ** 2).sum())
                votes[word] = votes.get(word, 0) + descriptor - codebook.centroids[word]
        for word, vote in votes.items():
            total[word] = total.get(word, 0) + vote / (np.linalg.norm(vote) + 1e-6)
    return total


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_formula(images, codebook, levels):
    regions = grid_regions(320, 240, levels)
    inside = [members(xy, regions) for xy, _ in images]
    rows, points = np.array([2, 5, 6, 9]), [descriptors for _, descriptors in images]
    found = aggregate_regions(codebook, rows, points, inside, binary=False)
    expected = [(row, by_loops(codebook, *image, regions)) for row, image in zip(rows, images, strict=True)]
    assert list(zip(found.rows.tolist(), found.words.tolist(), strict=True)) == [
        (row, word) for row, words in expected for word in sorted(words)
    ]
    values = np.array([words[w] / (np.linalg.norm(words[w]) + 1e-6) for _, words in expected for w in sorted(words)])
    np.testing.assert_allclose(found.values, values, atol=1e-5)
    bits = aggregate_regions(codebook, rows, points, inside, binary=True)
    turned = values if codebook.rotation is None else values @ codebook.rotation
    np.testing.assert_array_equal(bits.values, pack(turned > 0))


@pytest.mark.parametrize("binary", [False, True])
def test_one_region_is_plain_aggregation(images, codebook, binary):
    rows = np.array([0, 1, 2, 3])
    inside = [members(xy, [[0, 0, 320, 240]]) for xy, _ in images]
    found = aggregate_regions(codebook, rows, [d for _, d in images], inside, binary)
    owner = np.repeat(rows, [len(xy) for xy, _ in images])
    points = np.concatenate([descriptors for _, descriptors in images])
    plain = aggregate(codebook, owner, codebook.assign(points), points, binary=binary)
    np.testing.assert_array_equal(found.rows, plain.rows)
    np.testing.assert_array_equal(found.words, plain.words)
    np.testing.assert_allclose(found.values, plain.values, atol=1e-5)


def test_an_index_of_regions_is_searched_as_any_other(images, codebook):
    index = Asmk(codebook)
    regions = grid_regions(320, 240, 2)
    inside = [members(xy, regions) for xy, _ in images]
    index.add_aggregated(aggregate_regions(codebook, [0, 1, 2, 3], [d for _, d in images], inside, True))
    assert index.rows.tolist() == [0, 1, 3], "an image without features is not in the index"
    for number in (0, 1, 3):
        query = images[number][1]
        assert index.search(np.zeros(len(query), np.int64), query).ids[0, 0] == number


def test_regions_of_the_grid_lie_in_the_image():
    regions = grid_regions(1024, 683, 3)
    np.testing.assert_allclose(regions[0], [0, 0, 1024, 683])
    assert (regions[:, :2] >= 0).all()
    assert (regions[:, 2:] <= np.array([1024.001, 683.001])).all()
    assert (regions[:, 2:] > regions[:, :2]).all()
    assert len(regions) == 1 + 2 + 6 + 12


def test_bad_arguments(images, codebook):
    with pytest.raises(ArrayError, match="rows that ascend"):
        aggregate_regions(codebook, [3, 1], [images[0][1]] * 2, [members(images[0][0], [[0, 0, 9, 9]])] * 2, True)
    with pytest.raises(ArrayError, match="regions"):
        members(images[0][0], [[0, 0, 9]])
