"""Heat maps of global descriptors: they must add up to the cosine that a search compares by."""

from __future__ import annotations

import numpy as np
import pytest

from resight.errors import ArrayError, UsageError
from resight.features import pooling
from resight.features.global_descriptor import Linear
from resight.features.whitening import fit_pca, fit_zca
from resight.viz.activations import Contributions, _half, contributions, draw_contributions

CHANNELS = 12


def maps(seed: int, height: int = 5, width: int = 7) -> np.ndarray:
    """Maps (C, H, W) as after a ReLU: half of the cells are empty."""
    return np.random.default_rng(seed).normal(size=(CHANNELS, height, width)).clip(min=0)


def unit(x: np.ndarray, pool) -> np.ndarray:
    return pooling.normalise(pool(x[None]))[0]


@pytest.mark.parametrize("p", [1.0, 3.0, 11.5, np.linspace(1, 6, CHANNELS)])
def test_both_maps_sum_to_the_cosine_of_gem(p):
    a, b = maps(0), maps(1, 4, 9)
    expected = unit(a, lambda x: pooling.gem(x, p)) @ unit(b, lambda x: pooling.gem(x, p))
    found = contributions(a, b, p)
    assert found.query.shape == (5, 7)
    assert found.result.shape == (4, 9)
    np.testing.assert_allclose([found.cosine, found.query.sum(), found.result.sum()], expected, rtol=1e-5)


def test_spoc_counts_negative_activations_too():
    a, b = maps(0) - 0.3, maps(1) - 0.3
    found = contributions(a, b, None)
    expected = unit(a, pooling.spoc) @ unit(b, pooling.spoc)
    np.testing.assert_allclose([found.query.sum(), found.result.sum()], expected, rtol=1e-9)
    assert contributions(a, b, 1.0).cosine != pytest.approx(expected)


def test_a_cell_is_its_share_of_every_channel():
    a, b, p = maps(2), maps(3), 3.0
    found = contributions(a, b, p)
    q, d = (unit(x, lambda y: pooling.gem(y, p)) for x in (a, b))
    slow = sum(q[c] * d[c] * b[c, 2, 4] ** p / (b[c] ** p).sum() for c in range(CHANNELS))
    assert found.result[2, 4] == pytest.approx(slow, rel=1e-5)


def test_empty_cells_channels_and_photos_add_nothing():
    a, b = maps(4), maps(5)
    b[:, 1, 1] = 0
    b[3] = 0
    found = contributions(a, b)
    assert found.result[1, 1] == 0
    assert (found.result >= 0).all()
    dark = contributions(a, np.zeros_like(b))
    assert dark.cosine == 0
    assert not dark.query.any()
    assert not dark.result.any()


def test_query_and_result_change_places():
    there, back = contributions(maps(4), maps(5, 3, 8)), contributions(maps(5, 3, 8), maps(4))
    np.testing.assert_allclose(there.query, back.result)
    np.testing.assert_allclose(there.result, back.query)


def test_one_bright_cell_is_all_of_it():
    b = np.zeros((CHANNELS, 3, 3))
    b[:, 2, 0] = maps(6).max(axis=(1, 2))
    found = contributions(maps(6), b)
    assert found.result[2, 0] == pytest.approx(found.cosine)
    assert found.result[2, 0] > 0.5


@pytest.mark.parametrize("normalised", [True, False])
def test_layers_behind_the_pooling_keep_the_sum(normalised):
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(60, 8))
    linear = Linear(
        rng.normal(size=(8, CHANNELS)).astype(np.float32), rng.normal(size=8).astype(np.float32), normalised
    )
    whitenings = [fit_zca(vectors, 0.5), fit_pca(vectors, 5, 0.25)]
    a, b = maps(8), maps(9, 3, 4)

    def descriptor(x):
        vector = pooling.normalise(linear(pooling.gem(x[None].astype(np.float32), 3.0)))
        for whitening in whitenings:
            vector = whitening.apply(vector)
        return vector[0]

    found = contributions(a, b, linear=linear, whitenings=whitenings)
    expected = descriptor(a) @ descriptor(b)
    np.testing.assert_allclose([found.cosine, found.query.sum(), found.result.sum()], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "p", "error", "message"),
    [
        (maps(0)[0], maps(1), 3.0, ArrayError, "maps of the query has shape"),
        (maps(0), maps(1)[:, :0], 3.0, ArrayError, "no side may be 0"),
        (maps(0), maps(1)[:4], 3.0, ArrayError, "12 channels"),
        (maps(0) * np.nan, maps(1), 3.0, ArrayError, "NaN"),
        (maps(0), maps(1), 0.0, UsageError, "positive"),
        (maps(0), maps(1), np.inf, UsageError, "maximum"),
        (maps(0), maps(1), [1.0, 2.0], ArrayError, r"p has shape \(2,\)"),
    ],
)
def test_wrong_arrays_are_refused(a, b, p, error, message):
    with pytest.raises(error, match=message):
        contributions(a, b, p)


def test_layers_of_another_size_are_refused():
    with pytest.raises(ArrayError, match="takes 3 values, the maps give 12"):
        contributions(maps(0), maps(1), linear=Linear(np.ones((2, 3), np.float32)))


def test_the_hot_corner_is_bright_and_the_cold_one_is_not():
    heat = np.zeros((4, 6))
    heat[0, 0] = 0.8
    grey = np.full((80, 120, 3), 90, np.uint8)
    picture = np.asarray(draw_contributions(grey, grey, Contributions(heat, np.fliplr(heat), 0.8)))
    assert picture.shape[1] <= 1400
    high = picture.shape[0] - 30
    wide = (picture.shape[1] - 8) // 2
    assert picture[high // 10, wide // 10].sum() > 400 > 250 > picture[high - 5, wide - 5].sum()
    assert picture[high // 10, -wide // 10].sum() > 400 > 250 > picture[high - 5, wide + 20].sum()


def test_half_of_the_cosine():
    assert _half(np.array([[0.1, 0.6], [0.2, 0.1]])) == 0.25
    assert _half(np.ones((4, 5))) == 0.5
    assert _half(np.array([[0.4, 0.3], [0.3, -0.2]])) == 0.25


def test_pictures_of_maps_without_any_heat():
    grey = np.full((40, 60, 3), 90, np.uint8)
    cold = Contributions(np.full((2, 2), -0.1), np.zeros((1, 1)), 0.0)
    assert draw_contributions(grey, grey, cold).width > 100
    with pytest.raises(ArrayError, match="uint8"):
        draw_contributions(grey.astype(float), grey, cold)
